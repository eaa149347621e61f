package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
	"gardu/internal/config"
)

// diagLines is how many of the last lines of the log go into a bundle.
const diagLines = 2000

func (a *app) diagCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "diag", Short: "Collect what field operations need to look into a fault, without secrets", Args: usage(cobra.NoArgs),
		Long: `diag writes one file with versions, health, the configuration without its secrets, what
'gardu check' finds, the last lines of the log, the head of the audit record, and how
many requests are in which state: no customer, no PIN, no key. Before it is written,
every secret that the configuration leads to is looked for in it. Look into it
yourself before you send it: tar tzf FILE.`,
		Example: "  sudo gardu diag\n  sudo gardu diag --output /media/usb/kiosk-7.tar.gz",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.diag(c.Context(), out)
		},
	}
	c.Flags().StringVar(&out, "output", "", "the `FILE`; without it gardu-diag-DATE.tar.gz here")
	return c
}

// bundle is what is collected: files by name, and what could not be had.
type bundle struct {
	names []string
	files map[string][]byte
}

func (b *bundle) add(name string, content []byte) {
	b.names = append(b.names, name)
	b.files[name] = content
}

func (b *bundle) json(name string, v any) {
	j, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		j = []byte(err.Error())
	}
	b.add(name, append(j, '\n'))
}

// or adds what was found, or why it was not.
func (b *bundle) or(name string, content []byte, err error) {
	if err != nil {
		content = append(content, []byte("\nnot complete: "+err.Error()+"\n")...)
	}
	b.add(name, content)
}

func (a *app) diag(ctx context.Context, out string) error {
	now := time.Now()
	if out == "" {
		out = "gardu-diag-" + now.Format("20060102-150405") + ".tar.gz"
	}
	b := a.collect(ctx, now)
	if what := b.secretIn(a.secrets()); what != "" {
		return fmt.Errorf("nothing was written: %s would hold a secret; tell the developers which file it was", what)
	}
	if err := b.write(out, now); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"file": out, "holds": b.names})
	}
	_, err := fmt.Fprintf(a.out, "%s holds: %s\n", out, strings.Join(b.names, ", "))
	return err
}

func (a *app) collect(ctx context.Context, now time.Time) *bundle {
	b := &bundle{files: map[string][]byte{}}
	b.json("versions.json", a.versions(now))
	b.json("update.json", a.readUpdateStatus(now))
	redacted, err := redactedConfig(a.config)
	b.or("config.json", redacted, err)

	set, err := loadSettings(a.config)
	if err != nil {
		b.add("check.txt", []byte(err.Error()+"\n"))
		return b
	}
	var check bytes.Buffer
	looked := *a
	looked.out, looked.json = &check, false
	cctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	err = looked.check(cctx, true)
	cancel()
	b.or("check.txt", check.Bytes(), err)

	var state, rows json.RawMessage
	if err := a.ask(ctx, verbUpdateState, nil, &state); err != nil {
		b.or("health.json", nil, err)
	} else {
		b.json("health.json", state)
	}
	if err := a.ask(ctx, verbQueue, listArgs{Filter: filter{All: true}}, &rows); err != nil {
		b.or("requests.json", nil, err)
	} else {
		counts, err := countRequests(rows)
		if err != nil {
			b.or("requests.json", nil, err)
		} else {
			b.json("requests.json", counts)
		}
	}
	rep, err := audit.Verify(ctx, set.Audit.Path)
	if err != nil {
		b.or("audit.json", nil, err)
	} else {
		b.json("audit.json", rep)
	}
	log, err := lastLog(ctx)
	b.or("log.txt", log, err)
	return b
}

func (a *app) versions(now time.Time) map[string]any {
	v := map[string]any{
		"version": version, "worker": workerIdentity(), "go": runtime.Version(), "arch": runtime.GOARCH,
		"clock": now.UTC().Format(time.RFC3339), "config": a.config,
	}
	if self, err := os.Executable(); err == nil {
		v["program"] = self
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				v["system"] = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	var fs unix.Statfs_t
	for _, dir := range []string{"/", "/var/lib/gardu", "/opt"} {
		if unix.Statfs(dir, &fs) == nil {
			v["free "+dir] = fs.Bavail * uint64(fs.Bsize) //nolint:gosec // G115: block sizes are positive
		}
	}
	return v
}

// countRequests keeps nothing of the requests but how many there are.
func countRequests(rows json.RawMessage) (map[string]int, error) {
	var list []struct {
		Operation string `json:"operation"`
		State     string `json:"state"`
	}
	if err := json.Unmarshal(rows, &list); err != nil {
		return nil, err
	}
	counts := map[string]int{"all": len(list)}
	for _, r := range list {
		counts[r.Operation+" "+r.State]++
	}
	return counts, nil
}

// lastLog asks systemd's journal. Lines of the agent hold no secret.
func lastLog(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "journalctl", "--no-pager", "-o", "short-iso", "-n", fmt.Sprint(diagLines), //nolint:gosec // G204: fixed
		"-u", "gardu.service", "-u", "gardu-update.service", "-u", "gardu-rollback.service", "-u", "gardu-kiosk.service").Output()
	if err != nil {
		return out, fmt.Errorf("ask journalctl: %w", err)
	}
	return out, nil
}

// shownKeys are configuration keys whose text may leave the kiosk: places, names of
// mechanisms, durations as text. Every other text is taken out, so that a key of
// tomorrow is not shown by accident.
var shownKeys = strings.Fields(`module path key_dir kek pin_kek listen brand socket group kiosk_user level format base_url mode
	signature_encoding empty_body min_tls iv answer_field zone verification offline latch token sealed_pin helper_path
	sign_key secret_key envelope_key api_key_file secure_code_file staff_file operators_file ca_file pin_file pin_credential
	repository root_file channel windows hold_reason max_age settle within wait_idle
	retry_base retry_max readback_base readback_max call_timeout probe_every hold drain link_stagger quiet_time unresolved_after
	token_margin token_life token_jitter clock_tolerance clock_bound cooldown link_life otp_life max_cooldown deadline
	dial_timeout tls_timeout header_timeout timeout idle_timeout version brand_colour accent_colour logo_file`)

// redactedConfig is the configuration as it was read, with every text that could be
// a credential, or that nobody has called harmless, taken out.
func redactedConfig(file string) ([]byte, error) {
	var all map[string]any
	if err := config.Read(file, &all); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(redact("", all), "", "  ")
	return append(b, '\n'), err
}

func redact(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			m[k] = redact(k, v[k])
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i := range v {
			l[i] = redact(key, v[i])
		}
		return l
	case string:
		// A user's name in an address may have a password beside it; a query of a
		// pkcs11: URI may be somebody's PIN.
		if v == "" || slices.Contains(shownKeys, key) && !strings.ContainsAny(v, "@?") {
			return v
		}
		return "[REDACTED]"
	case bool, int64, float64:
		return v
	}
	return "[REDACTED " + reflect.TypeOf(v).String() + "]"
}

// secrets are what the configuration leads to and must not be in a bundle.
func (a *app) secrets() map[string][]byte {
	all := map[string][]byte{}
	set, err := loadSettings(a.config)
	if err != nil {
		return all
	}
	keep := func(name, path string) {
		if path == "" {
			return
		}
		if v, err := config.SecretFile(path); err == nil {
			all[name] = v.Bytes()
		}
	}
	keep("token.pin_file", set.Token.PINFile)
	var tables map[string]any
	if config.Read(a.config, &tables) == nil {
		for table, v := range tables {
			m, _ := v.(map[string]any)
			for k, path := range m {
				p, ok := path.(string)
				if ok && (strings.HasSuffix(k, "_key_file") || strings.HasSuffix(k, "_code_file") || strings.HasSuffix(k, "_secret_file")) {
					keep(table+"."+k, p)
				}
			}
		}
	}
	if set.Token.PINCredential != "" {
		keep("token.pin_credential", filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), set.Token.PINCredential))
	}
	return all
}

// secretIn names the file of a bundle that holds one of the secrets. One of fewer
// than six bytes cannot be told from ordinary text.
func (b *bundle) secretIn(secrets map[string][]byte) string {
	for _, s := range slices.Sorted(maps.Keys(secrets)) {
		for _, name := range b.names {
			if len(secrets[s]) >= 6 && bytes.Contains(b.files[name], secrets[s]) {
				return name + " (" + s + ")"
			}
		}
	}
	return ""
}

func (b *bundle) write(path string, now time.Time) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // G304: the operator names it
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for _, name := range b.names {
		h := &tar.Header{Name: "gardu-diag/" + name, Mode: 0o600, Size: int64(len(b.files[name])), ModTime: now, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(b.files[name]); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close(), f.Sync())
}
