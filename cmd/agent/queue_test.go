package main

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/admin"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// seedJournal puts a request into the journal of a stopped agent: seed WHAT PHONE
// with WHAT one of queued, doubt, unresolved, done. NUMBER, ID and REF name it
// afterwards. seed broken breaks the last one's record.
func seedJournal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: seed WHAT [PHONE]")
	}
	if args[0] == "broken" {
		breakLast(ts)
		return
	}
	a := &app{config: ts.MkAbs("gardu.toml"), in: os.Stdin, out: ts.Stdout(), err: ts.Stderr()}
	ctx := context.Background()
	ts.Check(a.withJournal(ctx, func(s *stopped) error {
		e, err := s.engine(ctx)
		if err != nil {
			return err
		}
		r, err := e.Accept(ctx, txn.New{Key: "key of " + args[1], Operation: txn.FinpayResetPIN, Fields: map[string]string{"phoneNo": args[1]}})
		if err != nil {
			return err
		}
		ts.Setenv("ID", r.ID)
		ts.Setenv("NUMBER", ui.ShortReference(r.ID))
		ts.Setenv("REF", r.Reference)
		now := time.Now()
		switch args[0] {
		case "doubt", "unresolved":
			r.State, r.Reason, r.DoubtFrom, r.NotBefore = txn.InDoubt, txn.ReasonNoAnswer, now, now.Add(15*time.Minute)
			r.Attempts = []txn.Attempt{{Step: 1, Serial: 9, ExternalID: "00000000000000000000000000000009", Began: now, Ended: now.Add(time.Second), Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}}
			if args[0] == "unresolved" {
				r.State, r.Reason, r.Closed = txn.Unresolved, txn.ReasonNoReadback, now
			}
		case "done":
			r.State, r.Code, r.Closed = txn.Succeeded, "2000600", now
		default:
			return nil
		}
		return s.db.Update(ctx, r, nil)
	}))
}

// breakLast changes one byte in the newest record, as a failing disk does.
func breakLast(ts *testscript.TestScript) {
	db, err := bbolt.Open(ts.MkAbs("state/journal.db"), 0o600, &bbolt.Options{Timeout: time.Second})
	ts.Check(err)
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("items"))
		k, v := b.Cursor().Last()
		v = append([]byte(nil), v...)
		v[len(v)-1] ^= 1
		return b.Put(k, v)
	}))
	ts.Check(db.Close())
}

func TestNamesOfRequests(t *testing.T) {
	const id, key, ref = "ABCDEFGHIJKLMNOPQRSTUVWX23", "KKKKKKKKKKKKKKKKKKWXYZ4567", "00000042731879454100000000000003"
	for name, want := range map[string]int{
		"": 0, "-": 0, id: 1, ref: 2, "UVWX-23": 0, "STUV-WX23": 3, "stuvwx23": 3, "WXYZ-4567": 4, "wxyz4567": 4,
		"ABC": 0, "ABCD": 5, "abcdef": 5, "BCDE": 0, "4567": 0, ref[1:]: 0,
	} {
		require.Equal(t, want, matches(name, id, key, ref), name)
	}
}

func TestMaskShowsAtMostThreeCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"finpay:081234567890": "finpay:*********890", "prepaid:7": "prepaid:*", "prepaid:123": "prepaid:***", "prepaid:1234": "prepaid:*234", "finpay:": "finpay:", "x": "x:",
	} {
		require.Equal(t, want, mask(in))
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	for in, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "2d": now.AddDate(0, 0, -2), "2026-05-01": time.Date(2026, 5, 1, 0, 0, 0, 0, time.Local), "": {},
	} {
		got, err := moment(in, now)
		require.NoError(t, err, in)
		require.True(t, want.Equal(got), in)
	}
	for _, in := range []string{"-1h", "yesterday", "-2d", "2026-13-01", "99999999d"} {
		_, err := moment(in, now)
		require.Error(t, err, in)
	}
}

func TestWhoIs(t *testing.T) {
	root, other := admin.Peer{UID: 0, Name: "root"}, admin.Peer{UID: 1000, Name: "siti"}
	require.Equal(t, "root", whoIs(root, ""))
	require.Equal(t, "budi as root", whoIs(root, "budi"))
	require.Equal(t, "siti", whoIs(other, "budi"), "nobody but root is believed")
	require.Equal(t, "root", whoIs(root, "bu di\n"))
}

func TestOnlyRootSeesCustomersUnmasked(t *testing.T) {
	set := &settings{}
	set.Audit.Path = t.TempDir() + "/audit.log"
	ag := newAgent(set, slog.New(slog.DiscardHandler))
	require.NoError(t, ag.openAudit(t.Context()))
	t.Cleanup(func() { require.NoError(t, ag.audit.Close()) })
	require.ErrorContains(t, unmask(t.Context(), ag.audit, false, "siti", "list"), "only root")
	require.NoError(t, unmask(t.Context(), ag.audit, true, "budi as root", "list"))
	b, err := os.ReadFile(set.Audit.Path)
	require.NoError(t, err)
	require.Contains(t, string(b), `"act":"queue.unmask","object":"list","result":"","who":"budi as root"`)
	require.NotContains(t, string(b), "siti")
}
