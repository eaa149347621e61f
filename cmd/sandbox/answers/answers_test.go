package answers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// TestEveryDocumentedCodeIsPlayed holds the lists above against the documents' own.
func TestEveryDocumentedCodeIsPlayed(t *testing.T) {
	played := map[string]bool{}
	for _, r := range allRows(t) {
		played[r.call+" "+r.code] = true
	}
	for call, d := range documented {
		for _, kase := range strings.Split(d.cases, ",") {
			if kase == "" || kase == "200 00" { // a success is the platform's own
				continue
			}
			code := strings.Replace(kase, " ", d.service, 1)
			require.True(t, played[call+" "+code], "%s %s", call, code)
		}
		require.True(t, played[call+" "], "the success of %s", call)
	}
}

// seen is what came of a row.
type seen struct {
	row     row
	request *txn.Request
	screens []showing // where it rested
}

// resting reports whether a screen waits for nothing of the machine's own. One that
// is queued for no reason, or because what was wrong has just been mended, is about to
// be sent.
func resting(s *showing) bool {
	busy := []ui.State{ui.Submit, ui.Working, ui.Review, ui.Goodbye, ui.Boot}
	leaving := []string{"Q-QUEUED", "Q-TOKEN_INVALID", "Q-CLOCK_CORRECTED"}
	return !s.Busy && !slices.Contains(busy, s.State) && !slices.Contains(leaving, s.Code)
}

// holdsPIN finds the canary where it stands for itself: six digits come by chance in
// the middle of longer numbers, references and tokens.
var holdsPIN = regexp.MustCompile(`(?:^|[^0-9A-Za-z+/_-])` + canaryPIN + `(?:$|[^0-9A-Za-z+/_-])`).MatchString

// play brings one answer to the screen and follows it to its end.
func (b *booth) play(ctx context.Context, r row) (*seen, error) {
	if err := b.home(ctx); err != nil {
		return nil, err
	}
	if err := b.linkUp(ctx, r.provider()); err != nil {
		return nil, err
	}
	who := fmt.Sprintf("0812%07d", r.n)
	fields := map[string]string{"phoneNo": who}
	switch r.operation() {
	case txn.NetzmeForgotPIN:
		fields = map[string]string{"custIdMerchant": "M_" + who}
	case txn.PrepaidResetPIN:
		fields = map[string]string{"urn": fmt.Sprintf("7%010d", r.n), "last4Digits": "1745", "customerId": "IN" + who}
	case txn.FinpayUnbind:
		if err := b.SetCustomer(who, true); err != nil {
			return nil, err
		}
	case txn.FinpayResetPIN, txn.FinpayBind:
	}
	fault := upstream.Fault{Provider: r.provider(), Operation: r.call, Kind: upstream.KindStatus, Status: r.status, Code: r.code, Times: 1}
	if r.status == 200 && r.provider() == "finpay" {
		fault.Kind = upstream.KindAnswerAfterEffect
	}
	order := func() error {
		if r.status == 200 && r.code == "" {
			return nil // the platform answers as it would
		}
		if r.code == "" {
			fault.Code = ""
		}
		_, err := b.Inject(fault)
		return err
	}
	before, mark := b.accepted(), b.page.mark()
	b.ends.close() // until the doubt, where there is one, was seen
	defer b.ends.open()
	if r.call != "finpay.unbind.2" {
		if err := order(); err != nil {
			return nil, err
		}
	}
	if err := b.ask(ctx, r.operation(), fields); err != nil {
		return nil, err
	}
	first, err := b.page.until(ctx, "a result", resting)
	if err != nil {
		return nil, err
	}
	if b.accepted() == before {
		return nil, errNoRequest
	}
	if r.call == "finpay.unbind.2" {
		if first.State != ui.OTP {
			return nil, fmt.Errorf("the first call ended at %s", first.State)
		}
		otp, err := b.OTP(who)
		if err != nil {
			return nil, err
		}
		if err := order(); err != nil {
			return nil, err
		}
		mark = b.page.mark()
		if err := b.page.must(ctx, "submit_otp", map[string]string{"otp": otp}); err != nil {
			return nil, err
		}
		if first, err = b.page.until(ctx, "a result", func(s *showing) bool { return resting(s) && s.State != ui.OTP }); err != nil {
			return nil, err
		}
	}
	b.ends.open()
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

// rest is the first screen since a mark at which something rested: the newest one
// may already be a later one.
func (p *page) rest(mark int, now *showing) showing {
	for _, s := range p.since(mark) {
		onTheWay := []ui.State{ui.OTP, ui.Ident, ui.Attract, ui.Home, ui.Consent, ui.Verify, ui.PIN, ui.PINAgain}
		if resting(&s) && !slices.Contains(onTheWay, s.State) {
			return s
		}
	}
	return *now
}

// follow brings what is not over to its end.
func (b *booth) follow(ctx context.Context, r row, who string, first *showing) (*showing, error) {
	next := func(what string) (*showing, error) {
		return b.page.until(ctx, what, func(s *showing) bool { return resting(s) && s.State != first.State })
	}
	switch first.State {
	case ui.Queued:
		gone := r.reason != "link_down" && first.can("cancel")
		if gone { // while the provider is held; once it is released, the request goes out
			if err := b.page.must(ctx, "cancel", nil); err != nil {
				return nil, err
			}
		}
		if _, err := b.engine.Release(ctx, r.provider(), "test", "the next row"); err != nil && !errors.Is(err, txn.ErrNotHeld) {
			return nil, err
		}
		if !gone && r.reason != "link_down" { // its first call was sent
			if _, err := b.engine.Retry(ctx, txn.Order{ID: b.newest().ID, Who: "test", Why: "the next row"}); err != nil {
				return nil, err
			}
		}
		b.looks.open()
		return next("the end of what waited") // after link_down it goes out by itself
	case ui.Pending:
		return next("the end of the doubt")
	case ui.BindQR:
		// To its end: one that stays open asks for itself, and takes the next row's answer.
		if _, err := b.Link(who); err != nil {
			return nil, err
		}
		return next("the end of the binding")
	default: // a screen that ends it
	}
	return nil, nil
}

// linkUp waits until a request is not offered to wait.
func (b *booth) linkUp(ctx context.Context, provider string) error {
	for {
		for _, l := range b.engine.Links() {
			if l.Provider == provider && (l.Up && b.heard(provider) || !l.Known) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the link of %s stays down: %w", provider, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// attempt is the one that the row's answer ended; nil where the call itself was
// never made.
func (s *seen) attempt() *txn.Attempt {
	if s.row.ofTokens() { // the first one found that the token had ended
		return &s.request.Attempts[1]
	}
	step := 1
	if s.row.call == "finpay.unbind.2" {
		step = 2
	}
	for i := range s.request.Attempts {
		if a := &s.request.Attempts[i]; a.Step == step {
			return a
		}
	}
	return nil
}

// TestEveryAnswerToTheScreen plays every documented code of every operation, and
// the rest of the standard's list, through the sandbox's TLS, the providers, the
// journal and the engine to the words on the screen. What came of each is held
// against the agreed reading, against what the screen may say of such an outcome,
// and against testdata/answers.golden (UPDATE_GOLDEN=1 writes it).
func TestEveryAnswerToTheScreen(t *testing.T) {
	results := playAll(t, allRows(t), plan{}, (*booth).play)
	if t.Failed() {
		return
	}
	var golden strings.Builder
	for _, s := range results {
		name := fmt.Sprintf("%s %d %s", s.row.call, s.row.status, s.row.code)
		requireReading(t, name, s)
		for i := range s.screens {
			requireWords(t, name, &s.screens[i])
		}
		requireHonest(t, name, s)
		writeRow(&golden, s)
	}
	requireGolden(t, "answers.golden", golden.String())
}

// playAll plays rows at several booths of one plan at once.
func playAll(t *testing.T, rows []row, pl plan, play func(*booth, context.Context, row) (*seen, error)) []*seen {
	t.Helper()
	const booths = 6
	results := make([]*seen, len(rows))
	var all sync.WaitGroup
	for n := range booths {
		b := newBooth(t, pl)
		all.Go(func() {
			for i := n; i < len(rows); i += booths {
				ctx, cancel := context.WithTimeout(t.Context(), 2*patience) // several screens
				got, err := play(b, ctx, rows[i])
				cancel()
				if err != nil {
					t.Errorf("%s %d %q: %v", rows[i].call, rows[i].status, rows[i].code, err)
					return
				}
				results[i] = got
			}
			for _, v := range b.Violations() {
				t.Errorf("the sandbox saw a broken rule: %+v", v)
			}
			for what, text := range map[string]string{"log": b.log.String(), "frames": b.page.everything()} {
				if holdsPIN(text) {
					t.Errorf("a PIN stands in the %s", what)
				}
			}
		})
	}
	all.Wait()
	return results
}

// requireGolden holds a text against a file of testdata, or writes it
// (UPDATE_GOLDEN=1).
func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644)) //nolint:gosec // G306: test data
	}
	want, err := os.ReadFile(file) //nolint:gosec // G304: of this folder
	require.NoError(t, err)
	requireLines(t, string(want), got)
}

// requireLines names the lines that differ, and not both texts.
func requireLines(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		require.Equal(t, w[i], g[i], "line %d of the golden file", i+1)
	}
	require.Len(t, g, len(w))
}

// requireReading holds the attempt against the agreed reading.
func requireReading(t *testing.T, name string, s *seen) {
	t.Helper()
	at := s.attempt()
	if s.row.outcome == "" {
		return
	}
	require.NotNil(t, at, name)
	want := s.row.outcome
	if want == "succeeded" && s.row.code == "" && (s.row.call == "finpay.bind" || s.row.call == "finpay.inquiry" || s.row.call == "finpay.unbind.1") {
		want = "pending" // the customer has something left to do
	}
	require.Equal(t, want, at.Outcome.String(), name)
	if s.row.reason != "*" && s.row.reason != "" {
		require.Equal(t, s.row.reason, string(at.Reason), name)
	}
	if s.row.code != "" {
		require.Equal(t, s.row.code, at.Code, name)
	}
}

// requireWords demands every text of a screen in both languages.
func requireWords(t *testing.T, name string, s *showing) {
	t.Helper()
	require.NotEmpty(t, s.Title, name)
	var id, en strings.Builder
	for _, key := range append([]string{s.Title}, s.Lines...) {
		w, ok := ui.Words(key)
		require.True(t, ok, "%s: there are no words for %s", name, key)
		w = ui.Text{ID: filled(w.ID, s.Params), EN: filled(w.EN, s.Params)}
		requireText(t, name+", "+key, w)
		fmt.Fprintln(&id, w.ID)
		fmt.Fprintln(&en, w.EN)
	}
	must, ok := mustSay[s.Tone]
	if s.State == ui.OTPBad || s.State == ui.OTPLocked {
		must, ok = mustSay["still"], true
	}
	if ok {
		require.Contains(t, strings.ToLower(id.String()), must.ID, "%s: %s says too little in Indonesian", name, s.State)
		require.Contains(t, strings.ToLower(en.String()), must.EN, "%s: %s says too little in English", name, s.State)
	}
}

// filled is a text as the page shows it.
func filled(text string, params map[string]string) string {
	for name, value := range params {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// requireText demands a text that a person can read in both languages: not empty, not
// one for both, and nothing in it that was left to be filled in.
func requireText(t *testing.T, name string, w ui.Text) {
	t.Helper()
	for language, text := range map[string]string{"Indonesian": w.ID, "English": w.EN} {
		require.Regexp(t, `\pL{2}`, text, "%s: no words in %s", name, language)
		require.NotRegexp(t, `[{}%<>]|TODO|FIXME|XXX|lorem`, text, "%s: a place is left open in %s", name, language)
	}
	require.NotEqual(t, w.ID, w.EN, "%s says the same in both languages", name)
}

// TestTheGoldenFileHasItsWords: what the file names stands in the table of words, so
// that no key in it is a screen that shows its own name.
func TestTheGoldenFileHasItsWords(t *testing.T) {
	keys := 0
	for _, file := range []string{"answers.golden", "tokens.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		require.NoError(t, err)
		for line := range strings.Lines(string(b)) {
			shown, named, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			if !ok {
				require.NotRegexp(t, `^\t`, line, "a screen without its texts")
				continue
			}
			require.Regexp(t, `^\t[A-Z_]+ `, shown)
			for _, key := range strings.Fields(named) {
				keys++
				w, there := ui.Words(key)
				require.True(t, there, "%s: there are no words for %s", file, key)
				// The one value that a screen of these files brings along.
				requireText(t, key, ui.Text{ID: filled(w.ID, map[string]string{"tries": "2"}), EN: filled(w.EN, map[string]string{"tries": "2"})})
			}
		}
	}
	require.Greater(t, keys, 1000)
}

// mustSay is what a screen of a tone may never leave unsaid, in both languages, in
// small letters.
var mustSay = map[ui.Tone]ui.Text{
	ui.ToneQueued: {ID: "belum", EN: "been sent"},
	ui.ToneFailed: {ID: "tidak ada yang berubah", EN: "nothing has changed"},
	"still":       {ID: "ada yang berubah", EN: "nothing has changed"},
}

// requireHonest holds the screen against what it may say of an outcome: what may
// have had its effect is never a failure and never a success, what was refused is
// never a doubt, and only a plain yes is a success.
func requireHonest(t *testing.T, name string, s *seen) {
	t.Helper()
	first, at := s.screens[0], s.attempt()
	switch {
	case at == nil: // the call was not made
		require.Contains(t, []ui.Tone{ui.ToneQueued, ui.ToneFailed, ui.ToneNothing}, first.Tone, "%s: %+v", name, first)
	case at.Outcome == txn.Unknown:
		require.Equal(t, ui.ToneDoubt, first.Tone, "%s: %+v", name, first)
		require.Equal(t, ui.Pending, first.State, name)
		requireSaid(t, name, &first, "jangan ulangi", "do not repeat")
	case at.Outcome == txn.WentPending:
		require.Equal(t, ui.ToneWaiting, first.Tone, "%s: %+v", name, first)
		if first.State == ui.Pending {
			requireSaid(t, name, &first, "jangan ulangi", "do not repeat")
		}
	case at.Outcome == txn.WasRejected:
		require.Contains(t, []ui.State{ui.Fail, ui.OTPBad, ui.OTPExpired, ui.OTPLocked}, first.State, "%s: %+v", name, first)
	case at.Outcome == txn.HasSucceeded:
		require.Equal(t, ui.ToneDone, first.Tone, "%s: %+v", name, first)
	case at.Outcome == txn.NotSent:
		require.NotEqual(t, ui.ToneDoubt, first.Tone, "%s: %+v", name, first)
		if first.State != ui.Queued { // mended at once, and then the platform's own answer; or it may not wait
			require.Contains(t, []ui.State{ui.Done, ui.BindQR, ui.OTP, ui.Cancelled}, first.State, "%s: %+v", name, first)
		}
	default:
		t.Fatalf("%s: outcome %s", name, at.Outcome)
	}
}

func requireSaid(t *testing.T, name string, s *showing, id, en string) {
	t.Helper()
	var all ui.Text
	for _, key := range append([]string{s.Title}, s.Lines...) {
		w, _ := ui.Words(key)
		all.ID += strings.ToLower(w.ID) + "\n"
		all.EN += strings.ToLower(w.EN) + "\n"
	}
	require.Contains(t, all.ID, id, "%s: %s", name, s.State)
	require.Contains(t, all.EN, en, "%s: %s", name, s.State)
}

func writeRow(out *strings.Builder, s *seen) {
	code := s.row.code
	if code == "" {
		code = "-"
	}
	fmt.Fprintf(out, "%s %d %s", s.row.call, s.row.status, code)
	if at := s.attempt(); at != nil {
		fmt.Fprintf(out, " = %s %s", at.Outcome, at.Reason)
	}
	out.WriteString("\n")
	for _, sc := range s.screens {
		fmt.Fprintf(out, "\t%s %s: %s\n", sc.State, sc.Code, strings.Join(append([]string{sc.Title}, sc.Lines...), " "))
	}
}
