package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func (b *bench) install(ctx context.Context) (string, error) {
	said, err := b.c.sh(ctx, "apt-get install -y "+visitDir+"/old.deb 2>&1")
	if err != nil {
		return "", err
	}
	if err := has("dpkg", said, "nothing runs before this kiosk is provisioned: /usr/share/doc/gardu/provisioning.md"); err != nil {
		return "", err
	}
	state, err := b.c.sh(ctx, `systemctl is-active gardu.service gardu.socket; systemctl is-enabled gardu.service gardu.socket gardu-fetch.socket gardu-update.path gardu-update.timer; systemctl --failed --no-legend; gardu version
stat -c '%n %U %a' /etc/gardu /var/lib/gardu /opt/gardu /opt/gardu/versions /var/lib/gardu-update /usr/lib/gardu/gardu; test -r /usr/share/doc/gardu/provisioning.md; systemd-analyze verify gardu.service gardu.socket gardu-fetch.service gardu-fetch.socket gardu-rollback.service gardu-update.service gardu-update.path gardu-update.timer 2>&1 | grep gardu`)
	if err != nil && !strings.Contains(state, "gardu "+b.old) {
		return "", err
	}
	const want = `inactive
inactive
enabled
enabled
enabled
enabled
enabled
`
	if !strings.HasPrefix(state, want) || !strings.HasPrefix(state[len(want):], "gardu "+b.old+" ") {
		return "", fmt.Errorf("units and version are:\n%s", state)
	}
	if !strings.HasSuffix(state, `/etc/gardu root 755
/var/lib/gardu gardu 750
/opt/gardu root 755
/opt/gardu/versions root 755
/var/lib/gardu-update root 755
/usr/lib/gardu/gardu root 755
`) {
		return "", fmt.Errorf("folders and units are:\n%s", state)
	}
	return b.old, nil
}

// configure fills in the sample configuration as provisioning.md says, with the
// sandbox's addresses and short times.
func (b *bench) configure() error {
	sample, err := os.ReadFile(b.c.path("/etc/gardu/gardu.toml"))
	if err != nil {
		return err
	}
	text := string(sample)
	section := ""
	set := func(in, key, value string) {
		var out []string
		done := false
		section = ""
		for line := range strings.Lines(text) {
			if s := strings.TrimSpace(line); strings.HasPrefix(s, "[") {
				section = s
			}
			bare := strings.TrimPrefix(strings.TrimPrefix(line, "# "), "#")
			if !done && section == in && strings.HasPrefix(bare, key+" = ") {
				line, done = key+" = "+value+"\n", true
			}
			out = append(out, line)
		}
		if !done {
			err = errors.Join(err, fmt.Errorf("the sample configuration has no %s under %s", key, in))
		}
		text = strings.Join(out, "")
	}
	q := strconv.Quote
	ca := q("/etc/gardu/sandbox-ca.pem")
	p := b.plan
	for _, e := range [][3]string{
		{"[kiosk]", "number", "42"},
		{"[token]", "environment", `["SOFTHSM2_CONF=/etc/gardu/softhsm2.conf"]`},
		{"[screen]", "brand", q("Bank Test")},
		{"[screen]", "staff_file", q("/etc/gardu/staff.toml")},
		{"[limits]", "customer_hour", "1000"}, {"[limits]", "kiosk_hour", "100000"},
		{"[delivery]", "retry_base", q("200ms")}, {"[delivery]", "retry_max", q("1s")}, {"[delivery]", "readback_base", q("300ms")}, {"[delivery]", "readback_max", q("1s")},
		{"[delivery]", "probe_every", q("1s")}, {"[delivery]", "call_timeout", q("10s")}, {"[delivery]", "link_stagger", q("0s")}, {"[delivery]", "quiet_time", q("4s")}, {"[delivery]", "unresolved_after", q("8s")},
		{"[finpay]", "base_url", q("https://" + p.Finpay)}, {"[finpay]", "client_id", q("gardu-demo-finpay")}, {"[finpay]", "origin", q("kiosk.example")}, {"[finpay]", "merchant_id", q("F7778YIF6A3TC")},
		{"[finpay.tls]", "ca_file", ca},
		{"[netzme]", "base_url", q("https://" + p.Netzme)}, {"[netzme]", "client_id", q("gardu-demo-netzme")},
		{"[prepaid]", "base_url", q("https://" + p.Prepaid)}, {"[prepaid]", "verification", q("staff")}, {"[prepaid]", "pin_max", "12"},
		{"[prepaid]", "offline", q("hold")}, {"[prepaid]", "offline_approval", q("the test's own issuer")},
	} {
		set(e[0], e[1], e[2])
	}
	if err != nil {
		return err
	}
	text = strings.Replace(text, "# The other keys of [finpay] that are not about binding apply here too, and so does [netzme.tls].\n", "[netzme.tls]\nca_file = "+ca+"\n", 1)
	text += "[prepaid.tls]\nca_file = " + ca + "\n"
	return b.c.put("/etc/gardu/gardu.toml", 0o644, []byte(text))
}

// guide is a document as it was installed: its sections by what stands before the
// first full stop, each with the blocks that a person copies into a shell.
type guide map[string][]string

func (b *bench) readGuide(name string) (guide, error) {
	text, err := os.ReadFile(b.c.path("/usr/share/doc/gardu/" + name))
	if err != nil {
		return nil, err
	}
	g := guide{}
	section, inside := "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "## "):
			section, _, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "## ")), ".")
		case strings.HasPrefix(line, "```sh"):
			inside = true
			g[section] = append(g[section], "")
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			g[section][len(g[section])-1] += line
		}
	}
	return g, nil
}

// follow runs one block of the guide word for word.
func (b *bench) follow(ctx context.Context, g guide, section string, block int) (string, error) {
	if len(g[section]) <= block {
		return "", fmt.Errorf("section %q has %d blocks and not %d", section, len(g[section]), block+1)
	}
	out, err := b.c.in(ctx, "bash", "-e", "-c", g[section][block])
	if err != nil {
		err = fmt.Errorf("section %q, block %d: %w", section, block+1, err)
	}
	return out, err
}

// provision does what provisioning.md says, in its order, word for word. What a
// person edits and brings along is put there in between.
func (b *bench) provision(ctx context.Context) (string, error) {
	out, err := b.visit(ctx, "plan")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(out), &b.plan); err != nil {
		return "", err
	}
	g, err := b.readGuide("provisioning.md")
	if err != nil {
		return "", err
	}
	if _, err := b.follow(ctx, g, "2", 0); err != nil {
		return "", err
	}
	if err := b.configure(); err != nil {
		return "", err
	}
	if _, err := b.follow(ctx, g, "3", 0); err != nil {
		return "", err
	}
	netzme, err := newRSA()
	if err != nil {
		return "", err
	}
	for name, text := range map[string]string{
		"staff.toml":           fmt.Sprintf("[[staff]]\nid = \"1001\"\ncode = %q\n", b.plan.StaffCode),
		"prepaid-api.key":      b.plan.APIKey,
		"prepaid-secure.code":  b.plan.SecureCode,
		"finpay-secret.txt":    b.plan.FinpaySecret,
		"netzme-secret.txt":    b.plan.NetzmeSecret,
		"netzme-sign.pem":      netzme,
		"prepaid-envelope.hex": b.plan.EnvelopeKey,
	} {
		if _, err := b.c.feed(ctx, strings.NewReader(text), "install", "-m", "0600", "/dev/stdin", "/run/provision/"+name); err != nil {
			return "", err
		}
	}
	if _, err := b.follow(ctx, g, "3", 1); err != nil {
		return "", err
	}
	made, err := b.follow(ctx, g, "4", 0)
	if err != nil {
		return "", err
	}
	if err := has("gardu-provision", made, "made a software token named gardu", "/usr/lib/softhsm/libsofthsm2.so"); err != nil {
		return "", err
	}
	if said, err := b.follow(ctx, g, "4", 0); err == nil {
		return "", fmt.Errorf("a second token was made over the first: %s", said)
	}
	for block := range g["5"] {
		if _, err := b.follow(ctx, g, "5", block); err != nil {
			return "", err
		}
	}
	if _, err := b.visit(ctx, "introduce"); err != nil {
		return "", err
	}
	if err := b.startSandbox(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d steps", len(g)), b.passesCheck(ctx, g)
}

// passesCheck runs the guide's check, which before the first start has nothing to
// complain of.
func (b *bench) passesCheck(ctx context.Context, g guide) error {
	out, err := b.follow(ctx, g, "6", 0)
	if err == nil {
		err = has("gardu check", out, "key journal-kek")
	}
	return err
}

// newRSA is a signing key as a provider hands it out.
func newRSA() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// startSandbox starts the platforms as a service of the machine.
func (b *bench) startSandbox(ctx context.Context) error {
	if _, err := b.c.in(ctx, "systemd-run", "--quiet", "--unit=sandbox", "-p", "Restart=always", visitDir+"/bin/sandbox",
		"--config", visitDir+"/sandbox.json", "--make-certs", visitDir+"/certs", "--addr-file", visitDir+"/sandbox.addr"); err != nil {
		return err
	}
	_, err := b.c.sh(ctx, "for i in $(seq 100); do curl -s -o /dev/null http://"+b.plan.Control+"/state && break; sleep 0.1; done; install -m 0644 "+visitDir+"/certs/ca.pem /etc/gardu/sandbox-ca.pem")
	return err
}

func (b *bench) firstStart(ctx context.Context) (string, error) {
	begin := time.Now()
	g, err := b.readGuide("provisioning.md")
	if err != nil {
		return "", err
	}
	if _, err := b.follow(ctx, g, "7", 0); err != nil {
		return "", err
	}
	ready := time.Since(begin)
	if err := b.health(ctx, 20*time.Second, inService); err != nil {
		return "", err
	}
	status, err := b.c.in(ctx, "systemctl", "show", "gardu.service", "-p", "StatusText", "-p", "ActiveState", "-p", "User", "-p", "NRestarts")
	if err != nil {
		return "", err
	}
	if err := has("systemctl show", status, "StatusText=in service", "ActiveState=active", "User=gardu", "NRestarts=0"); err != nil {
		return "", err
	}
	// The port belongs to systemd.
	owner, err := b.c.sh(ctx, "systemctl show gardu.socket -p ActiveState -p SubState; ls -l /run/gardu; ls -la /run/gardu/keys; pgrep -u gardu -a")
	if err != nil {
		return "", err
	}
	if err := has("gardu.socket", owner, "ActiveState=active", "SubState=running"); err != nil {
		return "", err
	}
	return fmt.Sprintf("ready after %d ms", ready.Milliseconds()), nil
}

func (b *bench) check(ctx context.Context) (string, error) {
	out, err := b.c.in(ctx, "gardu-as-service", "check")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d lines", strings.Count(out, "\n")), has("gardu check", out, "link finpay", "link netzme", "key journal-kek")
}

func (b *bench) operations(ctx context.Context) (string, error) {
	out, err := b.visit(ctx, "operations")
	if err != nil {
		return "", err
	}
	if n := strings.Count(out, "\n"); n != 5 {
		return "", fmt.Errorf("%d operations: %s", n, out)
	}
	return strings.Join(strings.Fields(out), " "), nil
}

var exposure = regexp.MustCompile(`Overall exposure level for (\S+): ([0-9.]+)`)

func (b *bench) security(ctx context.Context) (string, error) {
	return b.exposed(ctx, 1.5, "gardu", "gardu-fetch", "gardu-update", "gardu-rollback")
}

// exposed says what systemd-analyze makes of services, of which none may be above most.
func (b *bench) exposed(ctx context.Context, most float64, services ...string) (string, error) {
	var all []string
	for _, name := range services {
		out, err := b.c.in(ctx, "systemd-analyze", "security", "--no-pager", name+".service")
		if err != nil {
			return "", err
		}
		m := exposure.FindStringSubmatch(out)
		if m == nil {
			return "", fmt.Errorf("no figure for %s in:\n%s", name, out)
		}
		f, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return "", err
		}
		if f > most {
			return "", fmt.Errorf("%s is exposed %.1f:\n%s", name, f, out)
		}
		all = append(all, fmt.Sprintf("%s %.1f", name, f))
	}
	return strings.Join(all, ", "), nil
}

func (b *bench) restart(ctx context.Context) (string, error) {
	said, err := b.under(ctx, 0, func() error {
		for range 5 {
			if _, err := b.c.in(ctx, "systemctl", "restart", "gardu.service"); err != nil {
				return err
			}
			if err := b.health(ctx, 20*time.Second, inService); err != nil {
				return err
			}
		}
		return nil
	})
	return "five restarts: " + said, err
}

func (b *bench) pinSurvives(ctx context.Context) (string, error) {
	if _, err := b.visit(ctx, "link", "down"); err != nil {
		return "", err
	}
	if _, err := b.visit(ctx, "hold", "pin"); err != nil {
		return "", err
	}
	keys, err := b.c.sh(ctx, "ls /run/gardu/keys | wc -l; stat -f -c %T /run/gardu/keys")
	if err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "systemctl", "restart", "gardu.service"); err != nil {
		return "", err
	}
	if err := b.health(ctx, 20*time.Second, inService); err != nil {
		return "", err
	}
	if _, err := b.visit(ctx, "link", "up"); err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := b.visit(wait, "effects", "pin"); err != nil {
		return "", err
	}
	return "on " + strings.Join(strings.Fields(keys), " file on "), nil
}

func (b *bench) mainPID(ctx context.Context) (string, error) {
	out, err := b.c.in(ctx, "systemctl", "show", "gardu.service", "-p", "MainPID", "--value")
	return strings.TrimSpace(out), err
}

func (b *bench) killed(ctx context.Context) (string, error) {
	return b.under(ctx, 2, func() error {
		pid, err := b.mainPID(ctx)
		if err != nil {
			return err
		}
		if _, err := b.c.in(ctx, "kill", "-KILL", pid); err != nil {
			return err
		}
		if err := until(ctx, 20*time.Second, func() error {
			now, err := b.mainPID(ctx)
			if err == nil && (now == pid || now == "0") {
				err = errors.New("it has not been restarted")
			}
			return err
		}); err != nil {
			return err
		}
		return b.health(ctx, 20*time.Second, inService)
	})
}

func (b *bench) hangs(ctx context.Context) (string, error) {
	pid, err := b.mainPID(ctx)
	if err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "kill", "-STOP", pid); err != nil {
		return "", err
	}
	begin := time.Now()
	if err := until(ctx, time.Minute, func() error {
		now, err := b.mainPID(ctx)
		if err == nil && (now == pid || now == "0") {
			err = errors.New("it has not been restarted")
		}
		return err
	}); err != nil {
		return "", err
	}
	took := time.Since(begin)
	if err := b.health(ctx, 20*time.Second, inService); err != nil {
		return "", err
	}
	// Who is ended by the watchdog writes hundreds of lines about its goroutines.
	if _, err := b.c.sh(ctx, "journalctl --no-pager -q -u gardu.service -n 5000 -o cat | grep -i 'watchdog timeout'"); err != nil {
		return "", fmt.Errorf("it was restarted, and not by the watchdog: %w", err)
	}
	return fmt.Sprintf("after %.0f s", took.Seconds()), nil
}

func (b *bench) tokenGone(ctx context.Context) (string, error) {
	before, err := b.mainPID(ctx)
	if err != nil {
		return "", err
	}
	const tokens = "/var/lib/gardu/softhsm"
	if _, err := b.c.sh(ctx, "mv "+tokens+" "+tokens+".gone"); err != nil {
		return "", err
	}
	err = b.health(ctx, time.Minute, `"out_of_service"`)
	status, serr := b.c.in(ctx, "systemctl", "show", "gardu.service", "-p", "StatusText", "-p", "ActiveState")
	wrong, lerr := b.c.in(ctx, "journalctl", "-q", "--no-pager", "-u", "gardu", "-p", "err", "-n", "20", "-o", "cat") // as operations.md says
	_, merr := b.c.sh(ctx, "mv "+tokens+".gone "+tokens)
	if err := errors.Join(err, serr, lerr, merr); err != nil {
		return "", err
	}
	if err := has("journalctl -p err", wrong, `"level":"ERROR"`, "token"); err != nil {
		return "", err
	}
	if err := lacks("journalctl -p err", wrong, `"level":"INFO"`); err != nil {
		return "", err
	}
	if err := has("systemctl show", status, "StatusText=out of service: token_", "ActiveState=active"); err != nil {
		return "", err
	}
	if err := b.health(ctx, time.Minute, inService); err != nil {
		return "", err
	}
	after, err := b.mainPID(ctx)
	if err == nil && after != before {
		err = errors.New("the agent was restarted")
	}
	return "", err
}

// reboot cuts the power and starts the machine again.
func (b *bench) reboot(ctx context.Context) error {
	b.c.cutPower()
	return b.boots(ctx)
}

// boots starts a machine whose power was cut, and its platforms.
func (b *bench) boots(ctx context.Context) error {
	if err := b.c.boot(ctx); err != nil {
		return err
	}
	if _, err := b.c.sh(ctx, "ip link set lo up 2>/dev/null; true"); err != nil {
		return err
	}
	return b.startSandbox(ctx)
}

func (b *bench) powerCut(ctx context.Context) (string, error) {
	if _, err := b.visit(ctx, "link", "down"); err != nil {
		return "", err
	}
	for _, what := range []string{"pin", "081100000021"} {
		if _, err := b.visit(ctx, "hold", what); err != nil {
			return "", err
		}
	}
	if err := b.reboot(ctx); err != nil {
		return "", err
	}
	begin := time.Now()
	if err := b.health(ctx, 30*time.Second, inService); err != nil {
		return "", err
	}
	took := time.Since(begin)
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := b.visit(wait, "effects", "finpay.reset_pin", "081100000021"); err != nil {
		return "", err
	}
	rows, err := b.c.in(ctx, "gardu", "queue", "list", "--all")
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`expired +\S+ +prepaid\.reset_pin +\S+ +secret_lost`).MatchString(rows) {
		return "", fmt.Errorf("no request with a PIN has expired:\n%s", rows)
	}
	_, err = b.c.in(ctx, "gardu", "audit", "verify")
	return fmt.Sprintf("in service %.1f s after the boot", took.Seconds()), err
}

func (b *bench) upgrade(ctx context.Context) (string, error) {
	said, err := b.under(ctx, 0, func() error {
		if _, err := b.c.sh(ctx, "dpkg -i "+visitDir+"/new.deb 2>&1"); err != nil {
			return err
		}
		return b.health(ctx, 20*time.Second, inService)
	})
	if err != nil {
		return "", err
	}
	b.from = "new"
	out, err := b.c.sh(ctx, "gardu version; readlink /proc/$(systemctl show gardu.service -p MainPID --value)/exe; systemctl is-enabled gardu.service")
	if err != nil {
		return "", err
	}
	return said, has("the upgraded system", out, "gardu "+b.new+" ", "/usr/lib/gardu/gardu\n", "enabled")
}
