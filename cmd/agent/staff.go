package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"gardu/internal/config"
	"gardu/internal/secret"
	"gardu/internal/ui"
)

// staffList checks the codes by which branch staff confirm a card and a person.
// Guessing is bounded: after five wrong codes nobody is confirmed for a quarter of
// an hour, whoever stands there.
type staffList struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	staff []staffMember
	wrong []time.Time
}

type staffMember struct {
	id   string
	code *secret.Value
}

const (
	staffTries  = 5
	staffWindow = 15 * time.Minute
	staffDigits = ui.StaffCodeMin
)

var (
	errStaffCode   = errors.New("this staff code is not known")
	errStaffLocked = fmt.Errorf("%w; wait a quarter of an hour", ui.ErrStaffLocked)
)

// readStaff reads the staff file: TOML, [[staff]] with id and code. It is a
// credential: whoever reads it can confirm anybody.
func readStaff(path string, log *slog.Logger) (*staffList, error) {
	st, err := os.Stat(path)
	if err == nil && st.Mode().Perm()&0o007 != 0 {
		return nil, &config.Error{File: path, Err: errors.New("everybody on this machine can read it"), Hint: "chmod it to 0600 or 0640"}
	}
	var f struct {
		Staff []struct {
			ID   string `toml:"id"`
			Code string `toml:"code"`
		} `toml:"staff"`
	}
	if err := config.Read(path, &f); err != nil {
		return nil, err
	}
	l := &staffList{log: log}
	seen := map[string]bool{}
	for _, m := range f.Staff {
		c := []byte(m.Code)
		switch {
		case m.ID == "" || seen[m.ID]:
			return nil, &config.Error{File: path, Key: "staff.id", Err: fmt.Errorf("id %q is empty or twice there", m.ID), Hint: "give each member of staff an id of their own"}
		case len(c) < staffDigits || len(c) > ui.StaffCodeMax || !allDigits(c):
			return nil, &config.Error{File: path, Key: "staff.code", Err: fmt.Errorf("the code of %s does not have %d to %d digits", m.ID, staffDigits, ui.StaffCodeMax), Hint: "give it a code that the screen can take"}
		}
		for _, o := range l.staff {
			if o.code.Equal(secret.New(c)) {
				return nil, &config.Error{File: path, Key: "staff.code", Err: fmt.Errorf("%s and %s have the same code", o.id, m.ID), Hint: "give each their own"}
			}
		}
		seen[m.ID] = true
		l.staff = append(l.staff, staffMember{m.ID, secret.New(c)})
	}
	if len(l.staff) == 0 {
		return nil, &config.Error{File: path, Err: errors.New("it names nobody"), Hint: "add a [[staff]] table with id and code"}
	}
	return l, nil
}

// replace takes the staff of another list. The codes of before are wiped, the wrong
// tries are not forgotten.
func (l *staffList) replace(fresh *staffList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.staff {
		m.code.Wipe()
	}
	l.staff = fresh.staff
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// VerifyStaff implements ui.StaffVerifier.
func (l *staffList) VerifyStaff(_ context.Context, code *secret.Value) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.wrong) > 0 && now.Sub(l.wrong[0]) >= staffWindow {
		l.wrong = l.wrong[1:]
	}
	if len(l.wrong) >= staffTries {
		l.log.Warn("staff codes are refused after too many wrong ones", "until", l.wrong[0].Add(staffWindow))
		return "", errStaffLocked
	}
	id := ""
	for _, m := range l.staff { // all of them, so that the time taken says nothing
		if subtle.ConstantTimeCompare(m.code.Bytes(), code.Bytes()) == 1 {
			id = m.id
		}
	}
	if id == "" {
		l.wrong = append(l.wrong, now)
		l.log.Warn("wrong staff code", "wrong_in_window", len(l.wrong))
		return "", errStaffCode
	}
	l.log.Info("staff confirmed a card and a person", "staff", id)
	return id, nil
}
