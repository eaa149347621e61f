package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gardu/internal/admin"
	"gardu/internal/ui"
	"gardu/internal/update"
)

// The verbs by which the updater asks the agent, and others ask for the updater.
const (
	verbUpdateState   = "update.state"
	verbUpdateRequest = "update.request"
)

// thisRun is another text in each process: the updater sees by it that the agent
// was started anew.
var thisRun = sync.OnceValue(rand.Text)

// updateVerbs adds what concerns updates.
func (ag *agent) updateVerbs(verbs map[string]admin.Verb) map[string]admin.Verb {
	verbs[verbUpdateState] = admin.Verb{Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) { return ag.updateState(), nil }}
	verbs[verbUpdateRequest] = admin.Verb{Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) {
		return nil, ag.requestUpdate()
	}}
	return verbs
}

// updateState says what works, and whether a restart now would disturb somebody.
func (ag *agent) updateState() *update.Agent {
	s := &update.Agent{Version: version, Run: thisRun(), Slot: update.Factory, Links: map[string]bool{}}
	if self, err := os.Executable(); err == nil {
		s.Slot = update.SlotOf(self)
	}
	ag.mu.Lock()
	e, h := ag.engine, ag.health
	ag.mu.Unlock()
	s.Journal = e != nil // the engine has read all of it
	s.Token = e != nil && h.OK
	if !h.OK {
		s.Trouble = h.Reason
	}
	st := ag.screen.Standing()
	s.Screen = st.Connected
	if e != nil {
		for _, l := range e.Links() {
			if l.Known {
				s.Links[l.Provider] = l.Up
			}
		}
		if e.UnderWay() > 0 {
			s.Busy = update.CodeSending
		}
	}
	if st.Session {
		s.Busy = update.CodeSession
	}
	return s
}

// requestUpdate touches the file that gardu-update.path watches. It is in the
// runtime directory, which is ours; what runs then is root's and asks nobody what to
// install.
func (ag *agent) requestUpdate() error {
	path := filepath.Join(filepath.Dir(ag.set.Admin.Socket), "update-request")
	if err := os.WriteFile(path, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return fmt.Errorf("ask for an update: %w", err)
	}
	return nil
}

// servePage serves OUT OF SERVICE and nothing else, because no version of the
// program would start. It ends so that the service manager tries everything again.
func (a *app) servePage(ctx context.Context, left time.Duration, why string) error {
	set, err := loadSettings(a.config)
	if err != nil {
		set = defaultSettings()
		set.file = a.config
		// What can be read is used: the page should be where the browser looks for it.
		if v, err := readUpdateView(a.config); err == nil {
			set.Admin = v.Admin
		}
		if l := screenListen(a.config); l != "" {
			set.Screen.Listen = l
		}
	}
	log, err := newLog(a.err, set.Log)
	if err != nil {
		return err
	}
	ag := newAgent(set, log)
	ag.manager = newManager(log)
	l, err := ag.listen(ctx)
	if err != nil {
		return err
	}
	if ag.screen, err = ag.newScreen(l); err != nil {
		return errors.Join(err, l.Close())
	}
	log.Error("only the page OUT OF SERVICE is served", "reason", why, "for", left.Round(time.Second).String(),
		"to_do", "read 'journalctl -u gardu' and 'gardu update status', mend what they say, then 'gardu update resume' and 'systemctl restart gardu'")
	ag.setHealth(ui.Health{Reason: "configuration", Hint: "call field operations: the program does not start on this machine"})
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { _ = ag.supervise(ctx) })
	err = ag.screen.Serve(ctx)
	cancel()
	parts.Wait()
	if err == nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return errors.New("the page was served long enough; everything is tried again")
	}
	return err
}
