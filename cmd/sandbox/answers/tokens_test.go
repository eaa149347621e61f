package answers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// The token services (SNAP standard, services 73 and 74), and the customer's operation
// that each row of theirs is played with.
var tokenServices = map[string]struct {
	service   string
	operation txn.Operation
}{
	"finpay.token":          {"73", txn.FinpayResetPIN},
	"netzme.token":          {"73", txn.NetzmeForgotPIN},
	"finpay.customer_token": {"74", txn.FinpayResetPIN},
}

// ofTokens reports whether a row's answer is one of a token service.
func (r *row) ofTokens() bool { return strings.HasSuffix(r.call, "token") }

// tokenReading is what the agreed reading makes of a case of service 73, by hand: the
// call that needs the token was in no case sent, so that nothing is refused and
// nothing is in doubt. What says no to the client holds the provider for an operator.
func tokenReading(status int, kase string) (outcome, reason string) {
	switch {
	case status == 429, status == 403 && kase == "06":
		return "not_sent", "throttled"
	case status >= 400 && status < 500:
		return "not_sent", "auth_refused"
	}
	return "not_sent", "link_down"
}

// customerReading is the same of service 74, for a refresh token. A no to the token
// itself sends the customer to bind again. A no to our settings does not: binding
// again would come to the same.
func customerReading(status int, kase string) (outcome, reason string) {
	switch fmt.Sprint(status, " ", kase) {
	case "401 00":
		return "not_sent", "auth_refused"
	case "403 06", "429 00":
		return "not_sent", "throttled"
	case "403 01", "403 15", "404 03":
		return "rejected", "not_allowed"
	case "403 19", "404 02", "404 05", "404 08", "404 16", "404 17", "405 00", "405 01":
		return "rejected", "misconfigured"
	case "403 00", "409 00", "409 01", "418 77": // no word on the token
		return "not_sent", "link_down"
	}
	if status >= 400 && status < 500 {
		return "rejected", "bind_again"
	}
	return "not_sent", "link_down"
}

func tokenRows(t *testing.T, calls ...string) (rows []row) {
	t.Helper()
	for _, call := range calls {
		rows = append(rows, row{call: call, status: 200, outcome: "succeeded"})
		for _, r := range parse(t, snapCases, call, tokenServices[call].service) {
			kase := r.code[5:]
			r.outcome, r.reason = tokenReading(r.status, kase)
			if call == "finpay.customer_token" {
				r.outcome, r.reason = customerReading(r.status, kase)
			}
			rows = append(rows, r)
		}
	}
	for i := range rows {
		rows[i].n = i
	}
	return rows
}

// bound has a customer bind and bring the code, so that a token of theirs is kept.
func (b *booth) bound(ctx context.Context, who string) error {
	if err := b.home(ctx); err != nil {
		return err
	}
	if err := b.ask(ctx, txn.FinpayBind, map[string]string{"phoneNo": who}); err != nil {
		return err
	}
	if _, err := b.page.at(ctx, ui.BindQR); err != nil {
		return err
	}
	done, err := b.Link(who)
	if err != nil {
		return err
	}
	if err := b.page.must(ctx, "submit_code", map[string]string{"code": done.AuthCode}); err != nil {
		return err
	}
	_, err = b.page.at(ctx, ui.Done)
	return err
}

// playToken has a token end, so that the next call is refused for it, and answers the
// request for a new one.
func (b *booth) playToken(ctx context.Context, r row) (*seen, error) {
	who := fmt.Sprintf("0813%07d", r.n)
	fields, ended := map[string]string{"phoneNo": who}, upstream.KindExpireTokens
	if err := b.home(ctx); err != nil {
		return nil, err
	}
	if err := b.linkUp(ctx, r.provider()); err != nil {
		return nil, err
	}
	switch r.call {
	case "netzme.token":
		fields = map[string]string{"custIdMerchant": "M_" + who}
	case "finpay.customer_token":
		ended = upstream.KindExpireCustomerTokens
		if err := b.bound(ctx, who); err != nil {
			return nil, err
		}
		if err := b.home(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.firstToken(ctx, r); err != nil {
		return nil, err
	}
	faults := []upstream.Fault{{Provider: r.provider(), Kind: ended}}
	if r.code != "" {
		faults = append(faults, upstream.Fault{Provider: r.provider(), Operation: r.call, Kind: upstream.KindStatus, Status: r.status, Code: r.code, Times: 1})
	}
	for _, f := range faults {
		if _, err := b.Inject(f); err != nil {
			return nil, err
		}
	}
	mark := b.page.mark()
	if r.reason == "link_down" { // until the screen that says so was seen
		b.looks.close()
		defer b.looks.open()
	}
	if err := b.ask(ctx, tokenServices[r.call].operation, fields); err != nil {
		return nil, err
	}
	first, err := b.page.until(ctx, "a result", resting)
	if err != nil {
		return nil, err
	}
	out := &seen{row: r, screens: []showing{b.page.rest(mark, first)}}
	last, err := b.follow(ctx, r, who, &out.screens[0])
	if err != nil {
		return nil, fmt.Errorf("after %s: %w", first.State, err)
	}
	if last != nil && last.State != out.screens[0].State {
		out.screens = append(out.screens, *last)
	}
	out.request = b.newest()
	return out, b.Clear(ctx, upstream.ClearFilter{})
}

// firstToken makes sure that there is a client's token to end: after a row that got
// none, the next call fetches one.
func (b *booth) firstToken(ctx context.Context, r row) error {
	who := fmt.Sprintf("0814%07d", r.n)
	fields := map[string]string{"phoneNo": who}
	op := txn.FinpayBind // takes no customer token
	if r.provider() == upstream.Netzme {
		op, fields = txn.NetzmeForgotPIN, map[string]string{"custIdMerchant": "M_" + who}
	}
	if r.call == "finpay.customer_token" {
		return nil // the binding took care of it
	}
	if err := b.ask(ctx, op, fields); err != nil {
		return err
	}
	s, err := b.page.until(ctx, "a first answer", resting)
	if err != nil {
		return err
	}
	if s.State == ui.BindQR {
		if _, err := b.Link(who); err != nil {
			return err
		}
		if s, err = b.page.until(ctx, "the end of the binding", func(n *showing) bool { return resting(n) && n.State != ui.BindQR }); err != nil {
			return err
		}
	}
	if s.State != ui.Done {
		return fmt.Errorf("a first request ended at %s %s", s.State, s.Code)
	}
	return b.home(ctx)
}

// TestEveryTokenAnswerToTheScreen plays every case of the standard's list as the
// answer of a token service, to an agent whose token has just ended.
func TestEveryTokenAnswerToTheScreen(t *testing.T) {
	var results []*seen
	for _, group := range []struct {
		calls []string
		plan  plan
	}{
		{[]string{"finpay.token", "netzme.token"}, plan{}},
		{[]string{"finpay.customer_token"}, plan{sandbox: sandboxWantsTokens, finpay: tokensWanted}},
	} {
		all := tokenRows(t, group.calls...)
		stay := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return r.reason == "link_down" })
		goes := slices.DeleteFunc(all, func(r row) bool { return r.reason != "link_down" })
		results = append(results, playAll(t, stay, group.plan, (*booth).playToken)...)
		group.plan.retry = 200 * time.Millisecond
		results = append(results, playAll(t, goes, group.plan, (*booth).playToken)...)
	}
	if t.Failed() {
		return
	}
	var golden strings.Builder
	for _, s := range results {
		name := fmt.Sprintf("%s %d %s", s.row.call, s.row.status, s.row.code)
		require.GreaterOrEqual(t, len(s.request.Attempts), 2, name)
		require.Equal(t, txn.NotSent, s.request.Attempts[0].Outcome, name)
		require.Equal(t, txn.ReasonTokenInvalid, s.request.Attempts[0].Reason, "%s: the token had ended", name)
		at := s.attempt()
		require.Equal(t, s.row.outcome, at.Outcome.String(), name)
		require.Equal(t, s.row.reason, string(at.Reason), name)
		for i := range s.screens {
			requireWords(t, name, &s.screens[i])
		}
		requireHonest(t, name, s)
		writeRow(&golden, s)
	}
	requireGolden(t, "tokens.golden", golden.String())
}

// TestOnlyTheCustomersTokenEnded: it is renewed once and the call signed again, with a
// new external id and the same reference, while the client's own token goes on. A
// second refusal of the renewed one is the end of it.
func TestOnlyTheCustomersTokenEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := newBooth(t, plan{sandbox: sandboxWantsTokens, finpay: tokensWanted})
	const who = "081139291905"
	require.NoError(t, b.bound(ctx, who))
	reset := func() *showing {
		t.Helper()
		require.NoError(t, b.home(ctx))
		require.NoError(t, b.ask(ctx, txn.FinpayResetPIN, map[string]string{"phoneNo": who}))
		s, err := b.page.until(ctx, "a result", resting)
		require.NoError(t, err)
		return s
	}
	count := func(operation string) int {
		n := 0
		for _, e := range b.Ledger(upstream.LedgerFilter{Provider: upstream.Finpay}) {
			if e.Operation == operation {
				n++
			}
		}
		return n
	}
	refused := upstream.Fault{Provider: upstream.Finpay, Operation: "finpay.reset_pin", Kind: upstream.KindStatus, Status: 401, Times: 1}
	for name, end := range map[string]upstream.Fault{
		"it ended, 401 02":        {Provider: upstream.Finpay, Kind: upstream.KindExpireCustomerTokens},
		"it is not found, 401 04": {Provider: refused.Provider, Operation: refused.Operation, Kind: refused.Kind, Status: 401, Code: "04", Times: 1},
	} {
		tokens, renewals, resets, effects := count("finpay.token"), count("finpay.customer_token"), count("finpay.reset_pin"), b.EffectCount("finpay.reset_pin", "")
		_, err := b.Inject(end)
		require.NoError(t, err)
		require.Equal(t, ui.Done, reset().State, name)
		require.Equal(t, tokens, count("finpay.token"), "%s: the client's own token is as good as before", name)
		require.Equal(t, renewals+1, count("finpay.customer_token"), name)
		require.Equal(t, resets+2, count("finpay.reset_pin"), name)
		require.Equal(t, effects+1, b.EffectCount("finpay.reset_pin", ""), name)
		r := b.newest()
		require.Len(t, r.Attempts, 2)
		require.Equal(t, txn.ReasonTokenInvalid, r.Attempts[0].Reason, name)
		require.Equal(t, txn.NotSent, r.Attempts[0].Outcome, name)
		require.NotEqual(t, r.Attempts[0].ExternalID, r.Attempts[1].ExternalID, "%s: certainly not processed, so under a new id", name)
	}
	renewals, effects := count("finpay.customer_token"), b.EffectCount("finpay.reset_pin", "")
	refused.Code, refused.Times = "02", 2
	_, err := b.Inject(refused)
	require.NoError(t, err)
	s := reset()
	require.Equal(t, "F-BIND_AGAIN", s.Code, "renewed once, and refused again")
	requireWords(t, "refused again", s)
	require.Equal(t, renewals+1, count("finpay.customer_token"))
	require.Equal(t, effects, b.EffectCount("finpay.reset_pin", ""))
	require.Equal(t, "F-BIND_AGAIN", reset().Code, "what was refused twice is not kept")
	require.Equal(t, renewals+1, count("finpay.customer_token"))
	require.Empty(t, b.Violations())
}
