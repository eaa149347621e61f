package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/update"
)

// updateStatus is what 'gardu update status' prints.
type updateStatus struct {
	Current  string            `json:"current"`            // the version that the link names, or factory
	Pending  bool              `json:"pending"`            // it has not shown yet that it works
	Tries    int               `json:"tries,omitempty"`    // how often it was started so far
	From     string            `json:"from,omitempty"`     // what comes back when it does not
	Previous string            `json:"previous,omitempty"` // where 'rollback' goes
	Reason   update.Reason     `json:"reason"`             // why nothing (more) is installed
	Failed   bool              `json:"failed"`             // that is an error, and not something to wait for
	Wanted   string            `json:"wanted,omitempty"`
	Ready    string            `json:"ready,omitempty"`
	Checked  time.Time         `json:"checked,omitzero"`
	Reached  time.Time         `json:"reached,omitzero"`
	Age      string            `json:"metadata_age,omitempty"` // since the newest metadata was signed
	Metadata *update.World     `json:"metadata,omitempty"`
	Hold     *update.Hold      `json:"hold,omitempty"`
	Bad      map[string]string `json:"bad,omitempty"`
	Page     string            `json:"out_of_service,omitempty"` // why only the page is served
	Damaged  string            `json:"damaged,omitempty"`
	Rollout  string            `json:"rollout,omitempty"`
}

func (a *app) updateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what is installed, what is wanted, and why it is not installed yet", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s := a.readUpdateStatus(time.Now())
			if a.json {
				return a.printJSON(s)
			}
			return s.print(a.out)
		},
	}
}

// readUpdateStatus puts together what lies on the disk. It needs no rights and asks
// nobody.
func (a *app) readUpdateStatus(now time.Time) updateStatus {
	p := a.paths()
	var s updateStatus
	cur, err := p.Current()
	if err != nil {
		s.Damaged = err.Error()
	}
	s.Current = cur
	st, err := update.LoadState(p)
	if err != nil {
		s.Damaged = err.Error()
	}
	if st.Pending == cur && cur != update.Factory {
		s.Pending, s.Tries, s.From = true, st.Tries, st.From
	}
	s.Previous = st.Previous
	if h := st.Hold; h != nil && (h.Until.IsZero() || now.Before(h.Until)) {
		s.Hold = h
	}
	for v, b := range st.Bad {
		if s.Bad == nil {
			s.Bad = map[string]string{}
		}
		s.Bad[v] = b.Reason
	}
	if _, why := update.PageLeft(p, now); why != "" {
		s.Page = why
	}
	rep, err := update.LastReport(p)
	if err != nil {
		s.Reason = update.Reason{Code: update.CodeNothing, Text: "the repository was not asked yet; 'sudo gardu update check' does"}
	} else {
		s.Reason, s.Failed, s.Wanted, s.Ready, s.Checked, s.Reached, s.Metadata = rep.Reason, rep.Failed, rep.Wanted, rep.Ready, rep.At, rep.Reached, rep.Metadata
	}
	if s.Pending {
		s.Reason = update.Reason{Code: update.CodePending, Text: fmt.Sprintf("version %s has to show that it works (start %d); else %s comes back", cur, s.Tries, s.From)}
	}
	if s.Metadata != nil && !s.Metadata.Timestamp.Signed.IsZero() {
		s.Age = ago(now, s.Metadata.Timestamp.Signed)
	}
	if v, err := readUpdateView(a.config); err == nil {
		if v.Update.Repository == "" {
			s.Reason, s.Failed = update.Reason{Code: update.CodeNotConfigured, Text: "no repository is configured; set update.repository"}, false
		}
		if s.Wanted != "" {
			s.Rollout = fmt.Sprintf("channel %s; this kiosk takes part from %.2f%% on", v.Update.Channel, float64(update.Place(update.KioskID(v.Kiosk.Number), s.Wanted)+1)/100)
		}
	}
	return s
}

func ago(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case d < 0:
		return "signed in the future: this machine's clock is behind"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func (s updateStatus) print(w io.Writer) error {
	line := func(name, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(w, "%-12s %s\n", name, text)
		}
	}
	line("installed", s.Current)
	line("why", s.Reason.Text)
	line("wanted", s.Wanted)
	line("rollout", s.Rollout)
	line("ready", s.Ready)
	line("way back", s.Previous)
	line("page only", s.Page)
	if h := s.Hold; h != nil {
		text := h.Who + ", until 'gardu update resume'" + until(h.Until)
		if h.Reason != "" {
			text += ": " + h.Reason
		}
		line("held by", text)
	}
	for _, v := range slices.Sorted(maps.Keys(s.Bad)) {
		line("not again", v+": "+s.Bad[v])
	}
	if !s.Checked.IsZero() {
		line("last looked", s.Checked.Local().Format(time.DateTime))
	}
	if !s.Reached.IsZero() {
		line("last reached", s.Reached.Local().Format(time.DateTime))
	}
	line("metadata", s.Age)
	if m := s.Metadata; m != nil {
		line("", fmt.Sprintf("root %d, timestamp %d, snapshot %d, targets %d; the first expires %s", m.Root.Version, m.Timestamp.Version, m.Snapshot.Version,
			m.Targets.Version, firstExpiry(m).Local().Format(time.DateOnly)))
		line("CLOCK", m.Clock)
	}
	line("DAMAGED", s.Damaged)
	return nil
}

func firstExpiry(m *update.World) time.Time {
	first := m.Root.Expires
	for _, r := range []update.Role{m.Timestamp, m.Snapshot, m.Targets} {
		if r.Expires.Before(first) {
			first = r.Expires
		}
	}
	return first
}
