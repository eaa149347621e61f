package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/cmd/crash/booth"
	"gardu/cmd/demo/stage"
)

// The tester is tested: each broken promise must be seen, and an honest end must
// not be called one.
func TestJudge(t *testing.T) {
	const salt = "salt"
	row := func(key, state, reason string) booth.Event {
		return booth.Event{Event: booth.SaidRow, Key: key, ID: "ID" + key, Reference: "ref" + key, State: state, Reason: reason}
	}
	said := func(what, key string) booth.Event {
		return booth.Event{Event: what, Key: key, ID: "ID" + key, Reference: "ref" + key}
	}
	done := func(op, identity, subject string, n int) stage.Effect {
		return stage.Effect{Operation: op, Identity: identity, Subject: subject, Count: n}
	}
	pin := []byte("837261504962")
	for name, tc := range map[string]struct {
		ask     []*request
		said    []booth.Event
		journal [][]booth.Event // as it was read, time after time
		effects []stage.Effect
		want    tally
	}{
		"delivered once": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}}, effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want: tally{Acked: 1, Once: 1},
		},
		"asked, not heard, not stored": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, journal: [][]booth.Event{nil},
		},
		"not heard, but stored": {
			ask:     []*request{{Key: "1", Operation: opReset, Subject: "081"}},
			journal: [][]booth.Event{{row("1", succeeded, "")}}, effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want: tally{Unheard: 1, Once: 1},
		},
		"lost": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{nil}, want: tally{Acked: 1, Lost: 1},
		},
		"gone for a while": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{nil, {row("1", cancelled, "")}}, want: tally{Acked: 1, Wrong: 1},
		},
		"doubled": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}}, effects: []stage.Effect{done(opReset, "ref1", "081", 2)},
			want: tally{Acked: 1, Doubled: 1},
		},
		"done again under another reference": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}},
			effects: []stage.Effect{done(opReset, "ref1", "081", 1), done(opReset, "other", "081", 1)},
			want:    tally{Acked: 1, Wrong: 1},
		},
		"a first call made twice": {
			ask: []*request{{Key: "1", Operation: opUnbind, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", expired, "otp_timeout")}},
			effects: []stage.Effect{done("finpay.unbind.1", "x", "081", 1), done("finpay.unbind.1", "y", "081", 1)},
			want:    tally{Acked: 1, Doubled: 1},
		},
		"called done, and nothing was done": {
			ask: []*request{{Key: "1", Operation: opBind, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}}, effects: []stage.Effect{done("finpay.bind", "x", "081", 1)},
			want: tally{Acked: 1, Wrong: 1},
		},
		"called not done, and it was done": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", expired, "waited_too_long")}}, effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want: tally{Acked: 1, Wrong: 1},
		},
		"nobody knows": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", inDoubt, "restart")}, {row("1", unresolved, "")}},
			effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want:    tally{Acked: 1, Unresolved: 1},
		},
		"in doubt and settled": {
			ask: []*request{{Key: "1", Operation: opBind, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", inDoubt, "restart")}, {row("1", expired, "nothing_changed")}},
			want:    tally{Acked: 1, Settled: 1},
		},
		"no end": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", "queued", "")}}, want: tally{Acked: 1, Open: 1},
		},
		"an end that did not last": {
			ask:     []*request{{Key: "1", Operation: opReset, Subject: "081"}},
			said:    []booth.Event{said(booth.SaidStored, "1"), {Event: booth.SaidChange, Key: "1", ID: "ID1", Reference: "ref1", State: succeeded}},
			journal: [][]booth.Event{{row("1", unresolved, "")}}, effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want: tally{Acked: 1, Wrong: 1},
		},
		"refused and all the same there": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{{Event: booth.SaidRefused, Key: "1"}},
			journal: [][]booth.Event{{row("1", cancelled, "")}}, want: tally{Unheard: 1, Wrong: 1},
		},
		"refused and all the same done": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081"}}, said: []booth.Event{{Event: booth.SaidRefused, Key: "1"}},
			journal: [][]booth.Event{nil}, effects: []stage.Effect{done(opReset, "ref1", "081", 1)},
			want: tally{Unheard: 1, Wrong: 1},
		},
		"one external id for two": {
			ask:  []*request{{Key: "1", Operation: opReset, Subject: "081"}, {Key: "2", Operation: opReset, Subject: "082"}},
			said: []booth.Event{said(booth.SaidStored, "1"), said(booth.SaidStored, "2")},
			journal: [][]booth.Event{{
				{Event: booth.SaidRow, Key: "1", ID: "ID1", State: cancelled, External: []string{"x"}},
				{Event: booth.SaidRow, Key: "2", ID: "ID2", State: cancelled, External: []string{"x"}},
			}},
			want: tally{Acked: 2, Cancelled: 1, Wrong: 1},
		},
		"another PIN": {
			ask: []*request{{Key: "1", Operation: opPrepaid, Subject: "IN1", PIN: pin}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}},
			effects: []stage.Effect{{Operation: opPrepaid, Identity: "ref1", Subject: "IN1", Count: 1, PINDigest: digest(salt, []byte("1"))}},
			want:    tally{Acked: 1, Wrong: 1},
		},
		"the very PIN": {
			ask: []*request{{Key: "1", Operation: opPrepaid, Subject: "IN1", PIN: pin}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", succeeded, "")}},
			effects: []stage.Effect{{Operation: opPrepaid, Identity: "ref1", Subject: "IN1", Count: 1, PINDigest: digest(salt, pin)}},
			want:    tally{Acked: 1, Once: 1},
		},
		"a stray": {journal: [][]booth.Event{{row("1", succeeded, "")}}, want: tally{Wrong: 1}},
		"another id on the screen": {
			ask: []*request{{Key: "1", Operation: opReset, Subject: "081", Shown: "OTHER"}}, said: []booth.Event{said(booth.SaidStored, "1")},
			journal: [][]booth.Event{{row("1", cancelled, "")}}, want: tally{Acked: 1, Wrong: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			for _, r := range tc.ask {
				b.asking(r)
			}
			for _, e := range tc.said {
				b.said(e)
			}
			for _, rows := range tc.journal {
				b.found(rows)
			}
			got := &tally{}
			judge(got, b, tc.effects, salt)
			bad := got.Doubled+got.Lost+got.Wrong+got.Open > 0
			require.Equal(t, bad, got.failed())
			require.Equal(t, bad, len(got.Details) > 0)
			got.Details = nil
			require.Equal(t, tc.want, *got)
		})
	}
}

func TestJournalsThatDoNotOpenFail(t *testing.T) {
	for _, list := range []func(*book) *[]string{
		func(b *book) *[]string { return &b.unopened }, func(b *book) *[]string { return &b.behind },
	} {
		b := newBook()
		b.put(list(b), "damaged")
		got := &tally{}
		judge(got, b, nil, "")
		require.Equal(t, 1, got.Unopened)
		require.True(t, got.failed())
	}
}

func TestReportFails(t *testing.T) {
	require.NoError(t, report([]*tally{{Kind: "good", Trials: 1, Acked: 1, Once: 1}}, 0))
	require.ErrorContains(t, report([]*tally{{Kind: "nothing"}}, 0), "nothing was acknowledged")
	for name, bad := range map[string]tally{
		"lost 1": {Acked: 1, Lost: 1}, "doubled 1": {Acked: 1, Doubled: 1}, "wrong 1": {Acked: 1, Wrong: 1}, "open 1": {Acked: 1, Open: 1},
		"journals unopened 1": {Unopened: 1}, "secrets in clear 1": {Secrets: 1}, "audit records broken 1": {Audit: 1}, "unaccounted for 1": {Acked: 1},
	} {
		require.ErrorContains(t, report([]*tally{&bad}, 0), name)
	}
}

func TestEveryPlannedKindExists(t *testing.T) {
	for _, p := range []plan{shortPlan(), longPlan()} {
		require.Len(t, p.trials, len(kinds()))
		for _, k := range kinds() {
			require.Positive(t, p.trials[k.name], k.name)
			_, err := onePlan(k.name, 1)
			require.NoError(t, err)
		}
	}
	_, err := onePlan("kil", 1)
	require.ErrorContains(t, err, "kill-slow")
}
