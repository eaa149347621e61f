package queue

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gardu/internal/txn"
)

// maxBroken is how many broken records Check names one by one.
const maxBroken = 20

// errChecked ends an op that changes nothing.
var errChecked = errors.New("checked")

// Check reads the whole file: its structure while nothing is being written, then
// every record's seal. The error names what is wrong: it wraps ErrDamaged or
// txn.ErrSeal. A large journal holds writers up for some hundredths of a second.
func (db *DB) Check(ctx context.Context) error {
	err := db.line.do(ctx, &op{apply: func(*batch) error {
		if err := db.inspectFile(); err != nil {
			return err
		}
		return errChecked
	}})
	if !errors.Is(err, errChecked) {
		return fmt.Errorf("check journal: %w", err)
	}
	var broken []error
	count := 0
	err = db.Each(ctx, func(_ *txn.Request, err error) error {
		if err == nil {
			return nil
		}
		if count++; count <= maxBroken {
			broken = append(broken, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check journal: %w", err)
	}
	if count > 0 {
		return fmt.Errorf("check journal: %d records do not open: %w", count, errors.Join(broken...))
	}
	return nil
}

// inspectFile looks at the file as it is on disk: what a transaction has not
// committed is in memory only.
func (db *DB) inspectFile() error {
	f, err := os.Open(db.opt.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := inspect(f, fi.Size()); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
