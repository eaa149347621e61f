package update

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Custom is the signed description of a target, in its "custom" member.
type Custom struct {
	Kind    string `json:"kind"` // KindProgram or KindPatch
	Version string `json:"version"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`

	// Of a program.
	MinFrom  string             `json:"min_from,omitempty"` // the oldest version that may go straight to this one
	Channels map[string]Channel `json:"channels,omitempty"`

	// Of a patch: the SHA-256, in hexadecimal, of the program that it is laid over.
	From string `json:"from,omitempty"`
}

// The kinds of targets.
const (
	KindProgram = "program"
	KindPatch   = "patch"
)

// Channel is a release's standing in one channel.
type Channel struct {
	// Order says which of the releases of a channel is wanted: the highest. Going back
	// gives an older release a new order.
	Order     int64  `json:"order"`
	Percent   int    `json:"percent"`             // of the kiosks, 0 to 100
	Held      bool   `json:"held,omitempty"`      // nobody begins to install it
	Withdrawn bool   `json:"withdrawn,omitempty"` // and who has it is to leave it
	Why       string `json:"why,omitempty"`
}

// Target is one file of a repository.
type Target struct {
	Name   string // as in the metadata
	SHA256 string // in hexadecimal
	Length int64
	Custom Custom
}

// remote is the target's name in the repository: consistent snapshots put the
// digest first. SHA-256 is meant, whatever other digests are listed.
func (t Target) remote() string { return "targets/" + t.SHA256 + "." + t.Name }

// maxProgram bounds what a release may take of disk and memory.
const maxProgram = 128 << 20

// list reads the targets that are ours; others are left alone, so that a newer
// publisher can add kinds of its own.
func (w *World) list() []Target {
	var all []Target
	for _, name := range slices.Sorted(maps.Keys(w.targets)) {
		f := w.targets[name]
		if f == nil || f.Custom == nil || f.Length < 1 || f.Length > maxProgram || !plainName(name) {
			continue
		}
		sum := f.Hashes["sha256"]
		t := Target{Name: name, SHA256: hex.EncodeToString(sum), Length: f.Length}
		if len(sum) != sha256.Size || json.Unmarshal(*f.Custom, &t.Custom) != nil || CheckVersion(t.Custom.Version) != nil {
			continue
		}
		all = append(all, t)
	}
	return all
}

// plainName: a file name and nothing that leads elsewhere.
func plainName(s string) bool {
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_', c == '+', c == '~':
		default:
			return false
		}
	}
	return s != "" && s[0] != '.' && len(s) <= 150
}

// Wish is which release a kiosk asks for.
type Wish struct {
	Kiosk   string // its id: phases are taken from it
	Channel string
	Arch    string
	Current string // the version that is installed, or Factory
	Base    string // and what that one was built as; for Factory
	Bad     map[string]Bad
}

// Choice is what is to be installed, or why nothing is.
type Choice struct {
	Target  *Target
	Patches []Target // onto any program, smallest first
	Why     Reason   // where Target is nil
	Newest  string   // the wanted release of the channel, whether this kiosk gets it yet or not
}

// choose finds the highest release of the channel that this kiosk may have.
func (w *World) choose(q Wish) Choice {
	all := w.list()
	var offered []Target
	for _, t := range all {
		if _, in := t.Custom.Channels[q.Channel]; in && t.Custom.Kind == KindProgram && t.Custom.OS == "linux" && t.Custom.Arch == q.Arch {
			offered = append(offered, t)
		}
	}
	slices.SortFunc(offered, func(a, b Target) int {
		return int(b.Custom.Channels[q.Channel].Order - a.Custom.Channels[q.Channel].Order)
	})
	c := Choice{Why: reasonf(CodeNothing, "the repository has no release for channel %q on %s", q.Channel, q.Arch)}
	have := q.Current
	if have == Factory {
		have = q.Base
	}
	passed := false // a reason was found already that is nearer to what is wanted
	for i := range offered {
		t := &offered[i]
		v, ch := t.Custom.Version, t.Custom.Channels[q.Channel]
		if ch.Withdrawn {
			continue
		}
		if c.Newest == "" {
			c.Newest = v
		}
		why, ok := Reason{}, true
		switch _, bad := q.Bad[v]; {
		case v == have:
			// What runs is at least as wanted as all that follow.
			if !passed {
				c.Why = reasonf(CodeUpToDate, "version %s is what channel %q wants", have, q.Channel)
			}
			return c
		case bad:
			why, ok = reasonf(CodeBad, "version %s did not work here (%s); a newer release, or 'gardu update resume', tries again", v, q.Bad[v].Reason), false
		case ch.Held:
			why, ok = reasonf(CodeHeldByPublisher, "version %s is held by its publisher%s", v, because(ch.Why)), false
		case !inPhase(q.Kiosk, v, ch.Percent):
			why, ok = reasonf(CodePhase, "version %s goes to %d%% of the kiosks now, and this is not one of them yet", v, ch.Percent), false
		case t.Custom.MinFrom != "" && have != "" && Compare(have, t.Custom.MinFrom) < 0:
			why, ok = reasonf(CodeMinFrom, "version %s can be reached from %s on, and this is %s", v, t.Custom.MinFrom, have), false
		}
		if ok {
			c.Target = t
			break
		}
		if !passed {
			c.Why, passed = why, true
		}
	}
	if c.Target == nil {
		return c
	}
	for _, t := range all {
		if t.Custom.Kind == KindPatch && t.Custom.Version == c.Target.Custom.Version && t.Custom.Arch == q.Arch {
			c.Patches = append(c.Patches, t)
		}
	}
	slices.SortFunc(c.Patches, func(a, b Target) int { return int(a.Length - b.Length) })
	return c
}

// inPhase puts each kiosk at a place from 0 to 9999, another one for each version,
// so that not always the same branches are the first.
func inPhase(kiosk, version string, percent int) bool {
	return Place(kiosk, version) < percent*100
}

// Place is a kiosk's place in a version's rollout, 0 to 9999: it takes part when
// that is below a hundred times the percentage.
func Place(kiosk, version string) int {
	h := sha256.Sum256([]byte("gardu rollout\x00" + kiosk + "\x00" + version))
	return int(binary.BigEndian.Uint64(h[:]) % 10000)
}

// KioskID is the id by which a kiosk's place is found.
func KioskID(number uint32) string { return strconv.FormatUint(uint64(number), 10) }

// Reason is why nothing is installed, for people and for machines.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// The codes of reasons.
const (
	CodeUpToDate        = "up_to_date"
	CodeNotConfigured   = "not_configured"
	CodeNothing         = "nothing_offered"
	CodeReady           = "ready"
	CodeSession         = "session_active"
	CodeSending         = "send_active"
	CodeWindow          = "window_closed"
	CodeHeld            = "held"
	CodeHeldByPublisher = "held_by_publisher"
	CodePhase           = "not_in_phase"
	CodeMinFrom         = "min_from"
	CodeBad             = "did_not_work_here"
	CodeDisk            = "disk"
	CodeOldMetadata     = "metadata_too_old"
	CodeRefused         = "metadata_refused"
	CodeNetwork         = "network"
	CodeCertificate     = "client_certificate"
	CodeTampered        = "download_refused"
	CodeCheck           = "new_version_refuses"
	CodePending         = "being_tried"
	CodeFailed          = "went_back"
	CodeBusy            = "another_run"
	CodeInternal        = "internal"
)

func (r Reason) String() string { return r.Text }

func reasonf(code, format string, a ...any) Reason { return Reason{code, fmt.Sprintf(format, a...)} }

// Wanted finds what a kiosk would install; it is how a publisher looks at their own
// repository.
func (w *World) Wanted(q Wish) Choice { return w.choose(q) }
