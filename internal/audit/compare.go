package audit

import (
	"context"
	"fmt"
	"time"
)

// Gap is what CompareStamp found missing. The zero value is nothing.
type Gap struct {
	Missing uint64 // lines at the end that the journal remembers and the file has not
	Changed bool   // the file has another line where the journal remembers one; how many are missing is not known
}

// Found reports whether anything is missing.
func (g Gap) Found() bool { return g.Missing > 0 || g.Changed }

// CompareStamp holds the record, as it is now, against a stamp that was kept
// elsewhere. What is missing is written down as a gap and returned, once: a gap
// that stands in the record for this stamp already is history, also after a
// restart. After a power loss a few missing lines are expected: those on the
// delivery path are not synced one by one. Errors: ErrStamp, ErrClosed,
// *LockedError.
func (t *Trail) CompareStamp(ctx context.Context, stamp []byte) (Gap, error) {
	g, err := t.compare(ctx, stamp)
	if err != nil {
		return g, fmt.Errorf("compare audit record %s: %w", t.path, err)
	}
	return g, nil
}

func (t *Trail) compare(ctx context.Context, stamp []byte) (g Gap, err error) {
	want, err := ParseStamp(stamp)
	if err != nil {
		return Gap{}, err
	}
	began := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f == nil {
		return Gap{}, ErrClosed
	}
	if err := t.inPlace(); err != nil {
		return Gap{}, err
	}
	err = t.locked(ctx, began, func() error {
		lost, err := t.catchUp()
		if err != nil || want.Seq == 0 {
			return err
		}
		has, noted, err := look(t.f, t.size, want)
		switch {
		case err != nil || has:
			return err
		case noted:
			g = lost // by catchUp, just now, or nothing
			return nil
		case want.Seq > t.found.Seq:
			// Lines that this process wrote since stand where lost ones stood.
			g.Missing = want.Seq - t.found.Seq
		default:
			g.Changed = true
		}
		return t.gap(g, want)
	})
	return g, err
}
