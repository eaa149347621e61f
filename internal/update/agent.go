package update

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Agent is what the running agent says of itself.
type Agent struct {
	Slot    string          `json:"slot"`              // the version it runs from, or Factory
	Version string          `json:"version"`           // what it was built as
	Run     string          `json:"run"`               // another one after each start
	Journal bool            `json:"journal"`           // opened and migrated
	Token   bool            `json:"token"`             // answers
	Screen  bool            `json:"screen"`            // one is connected
	Links   map[string]bool `json:"links,omitempty"`   // by provider: worked when it was last used
	Busy    string          `json:"busy,omitempty"`    // CodeSession, CodeSending, or empty
	Trouble string          `json:"trouble,omitempty"` // why it is out of service
}

// ErrNotRunning is what Host.Ask wraps when no agent runs.
var ErrNotRunning = errors.New("the agent is not running")

// Host is the machine as the updater needs it.
type Host interface {
	// Ask asks the running agent. ErrNotRunning where there is none.
	Ask(ctx context.Context) (*Agent, error)
	// Restart starts the agent anew with what the link names, and waits until it is
	// ready or has failed.
	Restart(ctx context.Context) error
	// Check has a program judge the configuration and itself.
	Check(ctx context.Context, program, version string) error
}

// lacks says in one sentence what an agent that just started does not do yet that
// it must; empty when it does everything. before may be nil.
func (a *Agent) lacks(version string, before *Agent) string {
	switch {
	case a.Slot != version:
		return "the agent that runs is " + a.Slot
	case !a.Journal:
		return "its journal is not open" + because(a.Trouble)
	case !a.Token:
		return "its token does not answer" + because(a.Trouble)
	}
	if before == nil {
		return ""
	}
	if before.Screen && !a.Screen {
		return "its screen has not come back"
	}
	for _, p := range slices.Sorted(maps.Keys(before.Links)) {
		if before.Links[p] && !a.Links[p] {
			return "the link to " + p + " worked before and does not now"
		}
	}
	return ""
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
