package txn

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// all calls f for every combination of the values' indexes.
func all(f func(pick []int), counts ...int) {
	pick := make([]int, len(counts))
	for {
		f(pick)
		i := 0
		for ; i < len(pick); i++ {
			if pick[i]++; pick[i] < counts[i] {
				break
			}
			pick[i] = 0
		}
		if i == len(pick) {
			return
		}
	}
}

// history is what may have happened to a request before the attempt that is
// answered now.
type history struct {
	name     string
	attempts []Attempt // of the present step
	arrived  bool      // one of them may have
}

var histories = []history{
	{"nothing", nil, false},
	{"not sent", []Attempt{{Outcome: NotSent, Reason: ReasonLinkDown}}, false},
	{"mended before", []Attempt{{Outcome: NotSent, Reason: ReasonTokenInvalid}}, false},
	{"mended twice before", []Attempt{{Outcome: NotSent, Reason: ReasonTokenInvalid}, {Outcome: NotSent, Reason: ReasonClockCorrected}}, false},
	{"one OTP refused", []Attempt{{Outcome: WasRejected}}, false},
	{"two OTPs refused", []Attempt{{Outcome: WasRejected}, {Outcome: WasRejected}}, false},
	{"unknown", []Attempt{{Outcome: Unknown, Ended: noon.Add(-time.Minute)}}, true},
	{"unknown, then not sent", []Attempt{{Outcome: Unknown, Ended: noon.Add(-time.Minute)}, {Outcome: NotSent}}, true},
	{"pending", []Attempt{{Outcome: WentPending, Ended: noon.Add(-time.Minute)}}, true},
}

// combination is one line of the exhaustive test.
type combination struct {
	history history
	policy  Policy
	answer  Answer
	step    int
	late    bool
}

func (c *combination) String() string {
	return fmt.Sprintf("%s; step %d, late %v, answer %+v, policy otp=%v secret=%v readback=%v hold=%v not there=%s",
		c.history.name, c.step, c.late, c.answer, c.policy.OTP != nil, c.policy.Secret != nil, c.policy.Readback, c.policy.HoldOffline, c.policy.NotThere)
}

func (c *combination) sending() *Request {
	r := &Request{
		ID: "A", Operation: FinpayUnbind, State: Sending, Step: c.step, Created: noon.Add(-2 * time.Minute),
		Expires: noon.Add(time.Minute), AwaitTill: noon.Add(time.Minute), Secret: SecretPIN,
		Data: map[string]string{DataLinkURL: "https://x"},
	}
	if c.late {
		r.Expires, r.AwaitTill = noon, noon
	}
	if c.step == 2 {
		r.Attempts = append(r.Attempts, Attempt{Step: 1, Outcome: WentPending, Ended: noon.Add(-time.Minute)})
		r.Secret = SecretOTP
	}
	for _, a := range c.history.attempts {
		a.Step = c.step
		r.Attempts = append(r.Attempts, a)
	}
	if c.history.arrived {
		r.DoubtFrom = noon.Add(-time.Minute)
	}
	r.Attempts = append(r.Attempts, Attempt{Step: c.step, Began: noon.Add(-time.Second)})
	return r
}

// want is the rule in other words than the table's: the state a combination must
// come to.
func (c *combination) want() (State, Await) {
	a := &c.answer
	switch a.Outcome {
	case HasSucceeded:
		return Succeeded, ""
	case NotSent, WasRejected:
		if c.history.arrived {
			return InDoubt, ""
		}
	case WentPending:
		switch {
		case a.Await == AwaitLink:
			return Pending, AwaitLink
		case a.Await == AwaitOTP && c.step == 1 && c.policy.OTP != nil:
			return Pending, AwaitOTP
		}
		return Pending, ""
	default:
		return InDoubt, ""
	}
	if a.Outcome == WasRejected {
		refused := 1
		for _, at := range c.history.attempts {
			if at.Outcome == WasRejected {
				refused++
			}
		}
		if a.Await == AwaitOTP && c.step == 2 && c.policy.OTP != nil && refused < 3 && !c.late {
			return Pending, AwaitOTP
		}
		return Rejected, ""
	}
	mendedBefore := c.history.name == "mended twice before" || c.history.name == "mended before" && a.Reason == ReasonTokenInvalid
	switch {
	case a.Again && !mendedBefore:
		return Queued, ""
	case !c.policy.HoldOffline && c.step == 1:
		return Cancelled, ""
	case c.late:
		return Expired, ""
	}
	return Queued, ""
}

func combinations(f func(c *combination)) {
	outcomes := []Outcome{0, NotSent, Unknown, WentPending, WasRejected, HasSucceeded, 9}
	awaits := []Await{"", AwaitOTP, AwaitLink, "something else"}
	reasons := []Reason{"", ReasonTokenInvalid}
	field := &Field{Name: "x"}
	two := 2
	all(func(i []int) {
		c := combination{history: histories[i[0]], step: 1 + i[1], late: i[2] == 1}
		c.answer = Answer{Outcome: outcomes[i[3]], Await: awaits[i[4]], Again: i[5] == 1, Reason: reasons[i[6]], AwaitFor: time.Minute}
		c.policy = Policy{
			Enabled: true, Readback: i[7] == 1, HoldOffline: i[8] == 1, NotThere: []State{Rejected, Expired}[i[9]],
			Settle: 15 * time.Minute, Quiet: 2 * time.Minute,
		}
		if i[10] == 1 {
			c.policy.OTP = field
		}
		if i[11] == 1 {
			c.policy.Secret = field
		}
		f(&c)
	}, len(histories), 2, two, len(outcomes), len(awaits), two, len(reasons), two, two, 2, two, two)
}

func TestEveryAnswerInEverySituation(t *testing.T) {
	timing := Timing{}.withDefaults()
	met := make([]int, len(submitted))
	n := 0
	combinations(func(c *combination) {
		n++
		r := c.sending()
		probe := &settling{r.Clone(), &c.policy, timing, c.answer, noon}
		note(probe.r, &probe.a, noon)
		for i, line := range submitted {
			if (line.outcome == 0 || line.outcome == c.answer.Outcome) && line.is(probe) {
				met[i]++
				break
			}
		}
		settleSubmit(r, &c.policy, timing, c.answer, noon)
		check(t, c, r)
		state, await := c.want()
		if r.State != state || r.Await != await {
			t.Fatalf("%v\nis %s/%q, should be %s/%q", c, r.State, r.Await, state, await)
		}
		if r.State.Open() {
			endsByTime(t, c, r)
		}
	})
	for i, line := range submitted {
		require.NotZero(t, met[i], "no combination comes to the line %q of %v", line.when, line.outcome)
	}
	t.Logf("%d combinations", n)
}

// check holds what must be so whatever happens.
func check(t *testing.T, c *combination, r *Request) {
	t.Helper()
	bad := func(what string) { t.Fatalf("%v\n%s: %+v", c, what, r) }
	maybe := c.history.arrived
	switch c.answer.Outcome {
	case NotSent, WasRejected, HasSucceeded:
	default:
		maybe = true
	}
	switch {
	case r.State == Sending:
		bad("still sending")
	case maybe && (r.State == Expired || r.State == Cancelled || r.State == Rejected):
		bad("what may have arrived was given up")
	case maybe && r.State == Queued:
		bad("what may have arrived would be sent again")
	case r.Secret != "" && (c.answer.Outcome != NotSent || r.State != Queued):
		bad("a secret outlives its use")
	case r.Secret == "" && r.State == Queued:
		bad("the secret that is still needed is gone")
	case (r.Await != "") && r.State != Pending:
		bad("waits for the customer in a state that does not")
	case r.Await == AwaitOTP && (r.Step != 2 || c.policy.OTP == nil):
		bad("waits for a password that no step takes")
	case r.State.Open() != r.Closed.IsZero():
		bad("open and closed at once")
	case !r.State.Open() && r.Data[DataLinkURL] != "":
		bad("keeps the customer's page")
	case r.Last().Outcome < NotSent || r.Last().Outcome > HasSucceeded:
		bad("an attempt without an outcome")
	case r.State.Open() && r.NotBefore.After(endOf(r, &c.policy)) && r.State != Queued:
		bad("due after its end")
	}
}

// endsByTime lets nothing happen any more: every state comes to an end.
func endsByTime(t *testing.T, c *combination, r *Request) {
	t.Helper()
	end := endOf(r, &c.policy)
	require.False(t, end.IsZero(), "%v: no end", c)
	maybe := r.MayHaveBeenSent()
	before := r.Clone()
	require.False(t, settleTime(before, &c.policy, false, end.Add(-time.Nanosecond)), "%v: ended early", c)
	require.Equal(t, r.State, before.State)
	require.True(t, settleTime(r, &c.policy, false, end), "%v: does not end: %+v", c, r)
	require.False(t, r.State.Open())
	require.Empty(t, r.Secret)
	if maybe && r.State != Unresolved {
		t.Fatalf("%v: what may have arrived ended as %s", c, r.State)
	}
}

func TestEveryReadBackInEverySituation(t *testing.T) {
	timing := Timing{}.withDefaults()
	met := make([]int, len(inquired))
	situations := []struct {
		state State
		await Await
	}{{InDoubt, ""}, {Pending, ""}, {Pending, AwaitLink}}
	outcomes := []Outcome{0, NotSent, Unknown, WentPending, WasRejected, HasSucceeded, 9}
	const quietTime, settleTime = 2 * time.Minute, 15 * time.Minute
	ages := []time.Duration{-time.Minute, 0, quietTime - 1, quietTime, settleTime - 1, settleTime, time.Hour}
	otp := &Field{Name: "otp"}
	all(func(i []int) {
		sit, outcome, age, step := situations[i[0]], outcomes[i[1]], ages[i[2]], 1+i[3]
		p := &Policy{Readback: true, Quiet: quietTime, Settle: settleTime, NotThere: []State{Rejected, Expired}[i[4]]}
		if i[5] == 1 {
			p.OTP = otp
		}
		r := &Request{State: sit.state, Await: sit.await, Step: step, Data: map[string]string{DataLinkURL: "https://x"}}
		from := noon.Add(-age)
		r.DoubtFrom = from
		if sit.await == AwaitLink {
			r.AwaitTill, r.DoubtFrom = from, time.Time{}
		} else if age < 0 {
			return // a doubt cannot begin later than now
		}
		r.Attempts = []Attempt{{Step: step, Outcome: Unknown, Ended: noon.Add(-time.Hour)}}
		if i[6] == 1 {
			r.Attempts = append(r.Attempts, Attempt{Step: step, Outcome: Unknown, Ended: noon.Add(-time.Minute)}) // a guarded repeat
		}
		quietAge := age
		if i[6] == 1 {
			quietAge = min(age, time.Minute)
		}
		probe := &settling{r.Clone(), p, timing, Answer{Outcome: outcome}, noon}
		for k, line := range inquired {
			if (line.outcome == 0 || line.outcome == outcome) && line.is(probe) {
				met[k]++
				break
			}
		}

		want := sit.state
		switch {
		case outcome == HasSucceeded:
			want = Succeeded
		case outcome == WasRejected && quietAge >= quietTime:
			want = Rejected
			if sit.await == AwaitLink || p.NotThere == Expired || p.OTP != nil && step == 1 {
				want = Expired
			}
		case age >= settleTime:
			want = Unresolved
		}
		settleInquiry(r, p, timing, Answer{Outcome: outcome, Code: "2000000"}, noon)
		what := fmt.Sprintf("%v, outcome %v, age %v, step %d, repeat %d, policy %+v", sit, outcome, age, step, i[6], p)
		require.Equal(t, want, r.State, what)
		require.Equal(t, "2000000", r.Code)
		if !r.State.Open() {
			require.NotContains(t, r.Data, DataLinkURL, what)
			require.Equal(t, noon, r.Closed)
			return
		}
		require.True(t, r.NotBefore.After(noon), "%s: asks in a tight loop", what)
		require.False(t, r.NotBefore.After(endOf(r, p)), "%s: asks after its end", what)
		if outcome == WasRejected && age < quietTime && i[6] == 0 && (sit.await != AwaitLink || age >= 0) {
			require.False(t, r.NotBefore.After(from.Add(quietTime)), "%s: misses the first moment at which it counts", what)
		}
	}, len(situations), len(outcomes), len(ages), 2, 2, 2, 2)
	for i, line := range inquired {
		require.NotZero(t, met[i], "nothing comes to the line %q of %v", line.when, line.outcome)
	}
}

func TestWhatTimeDoesInEveryState(t *testing.T) {
	states := []State{Queued, Sending, Pending, InDoubt, Succeeded, Rejected, Expired, Cancelled, Unresolved}
	awaits := []Await{"", AwaitOTP, AwaitLink}
	all(func(i []int) {
		state, await, h, canAsk, over := states[i[0]], awaits[i[1]], histories[i[2]], i[3] == 1, i[4] == 1
		if await != "" && state != Pending {
			return
		}
		p := &Policy{Settle: time.Minute, Quiet: time.Minute}
		r := &Request{State: state, Await: await, Attempts: h.attempts, Secret: SecretPIN,
			Expires: noon, AwaitTill: noon, DoubtFrom: noon.Add(-time.Minute)}
		if await == AwaitLink {
			r.AwaitTill = noon.Add(-time.Minute)
		}
		now := noon
		if !over {
			now = noon.Add(-1)
		}
		want := state
		switch {
		case !over:
		case state == Queued && !h.arrived:
			want = Expired
		case state == Pending && await == AwaitOTP:
			want = Expired
		case (state == InDoubt || state == Pending) && !canAsk:
			want = Unresolved
		}
		did := settleTime(r, p, canAsk, now)
		what := fmt.Sprintf("%s/%q after %s, can ask %v, over %v", state, await, h.name, canAsk, over)
		require.Equal(t, want, r.State, what)
		require.Equal(t, want != state, did, what)
		require.Equal(t, did, r.Secret == "", what)
	}, len(states), len(awaits), len(histories), 2, 2)
}

func TestWhatARestartDoesInEveryState(t *testing.T) {
	timing := Timing{}.withDefaults()
	p := &Policy{Settle: time.Minute}
	for _, state := range []State{Queued, Sending, Pending, InDoubt, Succeeded, Rejected, Expired, Cancelled, Unresolved} {
		for _, await := range []Await{"", AwaitOTP, AwaitLink} {
			if await != "" && state != Pending {
				continue
			}
			r := &Request{State: state, Await: await, Step: 1, Secret: SecretPIN, Attempts: []Attempt{{Step: 1}}}
			require.Equal(t, state == Sending, settleRestart(r, p, timing, noon))
			if state == Sending {
				require.Equal(t, InDoubt, r.State)
				require.Equal(t, Unknown, r.Last().Outcome)
				require.Equal(t, noon, r.DoubtFrom)
				require.Empty(t, r.Secret)
			} else {
				require.Equal(t, state, r.State)
			}
			r = &Request{State: state, Await: await, Step: 1, Secret: SecretPIN}
			unsafe := state == Queued || await == AwaitOTP
			require.Equal(t, unsafe, settleBehind(r, p, timing, noon))
			if unsafe {
				require.Equal(t, InDoubt, r.State)
				require.Equal(t, ReasonJournalBehind, r.Reason)
				require.Empty(t, r.Secret)
			}
		}
	}
}

func TestARepeatDoesNotMakeADoubtYounger(t *testing.T) {
	c := combination{history: histories[6], step: 1, answer: Answer{Outcome: Unknown}, policy: Policy{Settle: time.Hour, HoldOffline: true}}
	require.Equal(t, "unknown", c.history.name)
	for _, o := range []Outcome{NotSent, Unknown, WasRejected} {
		r := c.sending()
		began := r.DoubtFrom
		settleSubmit(r, &c.policy, Timing{}.withDefaults(), Answer{Outcome: o}, noon)
		require.Equal(t, InDoubt, r.State)
		require.Equal(t, began, r.DoubtFrom, "else repeats could go on for ever without an operator hearing of it")
	}
}

func TestAShorterCooldownDoesNotEndALongerOne(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC)
	r := &Request{Attempts: []Attempt{{Step: 1}}}
	for _, c := range []struct{ answer, until time.Duration }{
		{0, 0}, {10 * time.Minute, 10 * time.Minute}, {time.Minute, 10 * time.Minute}, {0, 10 * time.Minute}, {time.Hour, time.Hour},
	} {
		note(r, &Answer{Outcome: WasRejected, Cooldown: c.answer}, now)
		if c.until == 0 {
			require.Zero(t, r.Cooldown)
		} else {
			require.Equal(t, now.Add(c.until), r.Cooldown)
		}
	}
}
