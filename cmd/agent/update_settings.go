package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"gardu/internal/config"
	"gardu/internal/update"
	"gardu/internal/wire"
)

// updateSettings say where releases come from and when they may be installed.
type updateSettings struct {
	Repository     string        `toml:"repository"` // https://…/ or file:///…; empty: nothing is fetched
	RootFile       string        `toml:"root_file"`  // the root of trust that the kiosk was provisioned with
	Channel        string        `toml:"channel"`    //
	CAFile         string        `toml:"ca_file"`    // PEM; replaces the system's authorities
	clientSettings               // where the repository asks who we are
	Proxy          string        `toml:"proxy"`          // http://host:port
	MissingStatus  []int         `toml:"missing_status"` // HTTP statuses beside 404 that mean "no such file"
	MaxAge         wire.Duration `toml:"max_age"`        // of online metadata
	Windows        []string      `toml:"windows"`        //
	Zone           string        `toml:"zone"`           // of the windows; empty: the machine's
	HoldReason     string        `toml:"hold_reason"`    // not empty: nothing is installed
	Settle         wire.Duration `toml:"settle"`
	Within         wire.Duration `toml:"within"`
	WaitIdle       wire.Duration `toml:"wait_idle"`
}

func defaultUpdate() updateSettings {
	return updateSettings{
		RootFile: "/etc/gardu/update-root.json", Channel: "stable", MaxAge: wire.Duration(14 * 24 * time.Hour),
		Settle: wire.Duration(time.Minute), Within: wire.Duration(10 * time.Minute), WaitIdle: wire.Duration(10 * time.Minute),
	}
}

// shortestSettle is longer than a version that gives no first word (TimeoutStartSec
// of gardu.service) or no sign of life (WatchdogSec) is left running by systemd, with
// the time that ending it takes (TimeoutAbortSec): a shorter trial would commit one
// that hangs.
const shortestSettle = 30 * time.Second

var channelForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (s *updateSettings) check(bad func(key, problem, hint string) error) error {
	if s.Repository != "" {
		if _, err := update.NewSource(update.SourceOptions{URL: s.Repository, Proxy: s.Proxy}); err != nil {
			return bad("update.repository", err.Error(), "correct it, or leave it empty to install nothing")
		}
	}
	if s.CAFile != "" && !filepath.IsAbs(s.CAFile) {
		return bad("update.ca_file", "is not an absolute path", "write it from the root")
	}
	if err := s.clientSettings.check(bad, "update", "update-tls"); err != nil {
		return err
	}
	if s.ClientCert != "" && !filepath.IsAbs(s.ClientCert) {
		return bad("update.client_cert", "is not an absolute path", "write it from the root, such as /etc/gardu/update-tls.pem")
	}
	if !filepath.IsAbs(s.RootFile) {
		return bad("update.root_file", "is not an absolute path", "write it from the root, such as /etc/gardu/update-root.json")
	}
	if !channelForm.MatchString(s.Channel) {
		return bad("update.channel", fmt.Sprintf("is %q", s.Channel), `give a name such as "stable"`)
	}
	for _, st := range s.MissingStatus {
		if st < http.StatusBadRequest || st >= http.StatusInternalServerError {
			return bad("update.missing_status", fmt.Sprintf("holds %d", st), "give statuses from 400 to 499, such as [403]")
		}
	}
	for _, w := range s.Windows {
		if _, err := update.ParseWindow(w); err != nil {
			return bad("update.windows", err.Error(), "correct it")
		}
	}
	if _, err := time.LoadLocation(s.Zone); err != nil {
		return bad("update.zone", err.Error(), `give a name such as "Asia/Jakarta"`)
	}
	for _, d := range []struct {
		key   string
		value wire.Duration
	}{{"update.max_age", s.MaxAge}, {"update.settle", s.Settle}, {"update.within", s.Within}, {"update.wait_idle", s.WaitIdle}} {
		if d.value < 0 {
			return bad(d.key, "is negative", `give a duration such as "10m"`)
		}
	}
	if time.Duration(s.Settle) < shortestSettle {
		return bad("update.settle", fmt.Sprintf("is %s, which is too short to see that a version hangs", time.Duration(s.Settle)),
			fmt.Sprintf("give at least %q; the watchdog needs that long", shortestSettle))
	}
	return nil
}

// windows were checked.
func (s *updateSettings) windows() []update.Window {
	var all []update.Window
	for _, t := range s.Windows {
		if w, err := update.ParseWindow(t); err == nil {
			all = append(all, w)
		}
	}
	return all
}

func (s *updateSettings) location() *time.Location {
	if l, err := time.LoadLocation(s.Zone); err == nil && s.Zone != "" {
		return l
	}
	return time.Local
}

// screenListen finds the screen's address in a file that cannot be used as a whole.
func screenListen(file string) string {
	b, err := os.ReadFile(file) //nolint:gosec // G304: the operator names it
	if err != nil || config.Line(file, "screen.listen") == 0 {
		return ""
	}
	m := regexp.MustCompile(`(?m)^\s*listen\s*=\s*"(127\.0\.0\.1:[0-9]+)"`).FindSubmatch(b)
	if m == nil {
		return ""
	}
	return string(m[1])
}
