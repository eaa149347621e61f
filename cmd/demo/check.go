package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"gardu/cmd/demo/stage"
)

// checker drives a demo as a customer, a platform and field operations would.
type checker struct {
	s      *stage.Stage
	p      *stage.Processes
	k      *stage.Kiosk
	up     stage.Platforms
	failed int
	n      int
	otps   []string // the one-time passwords used, to look for afterwards
}

// The PINs of the check are looked for everywhere afterwards. They are long, since
// six digits would turn up by chance among the digits of external ids.
const (
	pinOnline  = "837261504962"
	pinOffline = "948372615038"
)

func check(ctx context.Context) error {
	dir, err := folder("check")
	if err != nil {
		return err
	}
	// A check begins with nothing, so that it shows what a fresh machine does.
	if err := stage.Remove(dir); err != nil {
		return fmt.Errorf("clear the last check: %w", err)
	}
	s, err := stage.SetUp(ctx, dir, forCheck)
	if err != nil {
		return err
	}
	p, err := s.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Stop()
	k, err := s.Kiosk(ctx)
	if err != nil {
		return err
	}
	defer k.Leave()
	c := &checker{s: s, p: p, k: k, up: s.Platforms()}
	for _, step := range c.steps() {
		if err := c.step(ctx, step.what, step.do); err != nil {
			return err
		}
	}
	fmt.Printf("\n%d passed, %d failed\n", c.n-c.failed, c.failed)
	if c.failed > 0 {
		return fmt.Errorf("%d of %d steps did not hold; logs are in %s", c.failed, c.n, s.Path("log"))
	}
	return nil
}

type step struct {
	what string
	do   func(context.Context) error
}

func (c *checker) step(ctx context.Context, what string, do func(context.Context) error) error {
	begin := time.Now()
	ctx2, cancel := context.WithTimeout(ctx, 90*time.Second)
	err := do(ctx2)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.n++
	verdict := "ok  "
	if err != nil {
		verdict = "FAIL"
		c.failed++
	}
	fmt.Printf("%s  %-78s %5.1f s\n", verdict, what, time.Since(begin).Seconds())
	if err != nil {
		fmt.Println("      ", err)
		// What one step left must not fail the next.
		_ = c.up.Clear(ctx)
	}
	return nil
}

func (c *checker) steps() []step {
	return []step{
		{"gardu check finds nothing wrong", c.preflight},
		{"finpay.reset_pin online, in Indonesian", c.resetOnline},
		{"finpay.bind online: link as a QR code, the customer finishes, read-back says linked", c.bindOnline},
		{"finpay.unbind online: one wrong one-time password, then the right one", c.unbindOnline},
		{"netzme.forgot_pin online, in English, then its cooldown", c.forgotOnline},
		{"prepaid.reset_pin online, staff confirm, the platform has the very PIN", c.prepaidOnline},
		{"bad input is refused by field and rule, and nothing is stored", c.badInput},
		{"offline: every request waits and the screen says that nothing was sent", c.offline},
		{"online again: each is delivered once", c.backOnline},
		{"the answer to a bind is lost: in doubt, then settled by read-back", c.doubtBind},
		{"the answer to an unbind is lost: in doubt, then settled by read-back", c.doubtUnbind},
		{"the answer to a PIN reset is lost: in doubt, then unresolved, never doubled", c.doubtReset},
		{"kill -9 between attempt and answer: in doubt after the restart, never sent again", c.killed},
		{"kill -9 with a request waiting: it is there after the restart and delivered once", c.killedWaiting},
		{"the platforms saw no wrong signature, header or field", c.noViolations},
		{"no PIN, one-time password or token PIN in journal, logs, audit or frames", c.noSecrets},
		{"the audit record is unbroken", c.s.AuditUnbroken},
	}
}

func (c *checker) preflight(ctx context.Context) error {
	_, err := c.s.Gardu(ctx, "", "check")
	return err
}

func phone(n string) map[string]string { return map[string]string{"phoneNo": n} }

func (c *checker) exactly(ctx context.Context, want int, operation, subject string) error {
	got, err := c.up.Count(ctx, operation, subject)
	if err == nil && got != want {
		err = fmt.Errorf("%s happened to %s %d times instead of %d", operation, subject, got, want)
	}
	return err
}

func (c *checker) resetOnline(ctx context.Context) error {
	s, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.reset_pin", Fields: phone(stage.Customer)}, "DONE")
	if err != nil {
		return err
	}
	if s.Lang != "id" {
		return fmt.Errorf("the screen speaks %q", s.Lang)
	}
	return c.exactly(ctx, 1, "finpay.reset_pin", stage.Customer)
}

func (c *checker) bindOnline(ctx context.Context) error {
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.bind", Fields: phone(stage.Customer)}, "BIND_QR"); err != nil {
		return err
	}
	if err := c.up.Link(ctx, stage.Customer); err != nil {
		return err
	}
	if _, err := c.k.WaitFor(ctx, "DONE"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.link", stage.Customer)
}

func (c *checker) unbindOnline(ctx context.Context) error {
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.unbind", Fields: phone(stage.Customer)}, "OTP"); err != nil {
		return err
	}
	otp, err := c.up.OTP(ctx, stage.Customer)
	if err != nil {
		return err
	}
	wrong := "0000"
	if otp == wrong {
		wrong = "1111"
	}
	if err := c.k.Must(ctx, "submit_otp", map[string]string{"otp": wrong}); err != nil {
		return err
	}
	if _, err := c.k.WaitFor(ctx, "OTP_BAD"); err != nil {
		return err
	}
	c.otps = append(c.otps, otp)
	if err := c.k.Must(ctx, "submit_otp", map[string]string{"otp": otp}); err != nil {
		return err
	}
	if _, err := c.k.WaitFor(ctx, "DONE"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.unbind.2", stage.Customer)
}

func (c *checker) forgotOnline(ctx context.Context) error {
	fields := map[string]string{"custIdMerchant": stage.Merchant}
	s, err := c.k.Submit(ctx, "en", stage.Wish{Operation: "netzme.forgot_pin", Fields: fields}, "DONE")
	if err != nil {
		return err
	}
	if s.Lang != "en" {
		return fmt.Errorf("the screen speaks %q", s.Lang)
	}
	if err := c.k.ToIdent(ctx, "en", "netzme.forgot_pin"); err != nil {
		return err
	}
	r, err := c.k.Do(ctx, "submit_fields", fields)
	if err != nil {
		return err
	}
	if r.Code != "cooldown" || c.k.Session().State != "COOLDOWN" {
		return fmt.Errorf("a second request within the wait was answered %q on %s", r.Code, c.k.Session().State)
	}
	return c.exactly(ctx, 1, "netzme.forgot_pin", stage.Merchant)
}

func card() map[string]string {
	return map[string]string{"urn": stage.CardURN, "last4Digits": stage.CardLast4, "customerId": stage.CardCustomer}
}

func (c *checker) prepaidOnline(ctx context.Context) error {
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "prepaid.reset_pin", Fields: card(), PIN: pinOnline}, "DONE"); err != nil {
		return err
	}
	return c.hasPIN(ctx, 1, pinOnline)
}

// hasPIN compares what the platform got with the PIN by the sandbox's digest.
func (c *checker) hasPIN(ctx context.Context, times int, pin string) error {
	all, err := c.up.Effects(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(c.s.PINSalt + pin))
	n := 0
	for _, e := range all {
		if e.Operation == "prepaid.reset_pin" && e.PINDigest == hex.EncodeToString(sum[:]) {
			n += e.Count
		}
	}
	if n != times {
		return fmt.Errorf("the platform got this PIN %d times instead of %d", n, times)
	}
	return nil
}

func (c *checker) badInput(ctx context.Context) error {
	before, err := c.s.Queue(ctx)
	if err != nil {
		return err
	}
	for _, bad := range []struct {
		op          string
		fields      map[string]string
		field, rule string
	}{
		{"finpay.bind", phone("0812"), "phoneNo", "too_short"},
		{"finpay.bind", phone("62812345678"), "phoneNo", "prefix"},
		{"prepaid.reset_pin", map[string]string{"urn": "7000000000x", "last4Digits": stage.CardLast4, "customerId": stage.CardCustomer}, "urn", "digits_only"},
		{"prepaid.reset_pin", map[string]string{"urn": stage.CardURN, "last4Digits": "17", "customerId": stage.CardCustomer}, "last4Digits", "too_short"},
	} {
		if err := c.k.ToIdent(ctx, "id", bad.op); err != nil {
			return err
		}
		r, err := c.k.Do(ctx, "submit_fields", bad.fields)
		if err != nil {
			return err
		}
		if r.OK || r.Field != bad.field || r.Rule != bad.rule {
			return fmt.Errorf("%s: answered %+v instead of field %s, rule %s", bad.op, r, bad.field, bad.rule)
		}
	}
	after, err := c.s.Queue(ctx)
	if err == nil && len(after) != len(before) {
		err = fmt.Errorf("%d requests were stored", len(after)-len(before))
	}
	return err
}

// The customers of the steps that follow are others, so that no limit or order
// mixes the steps.
const (
	offReset   = "081100000001"
	offBind    = "081100000002"
	offUnbind  = "081100000003"
	lostBind   = "081100000004"
	lostUnbind = "081100000005"
	lostReset  = "081100000006"
	killReset  = "081100000007"
	killWait   = "081100000008"
	offForgot  = "M_offline1"
)

func (c *checker) offline(ctx context.Context) error {
	if err := c.up.SetCustomer(ctx, offUnbind, true); err != nil {
		return err
	}
	for _, p := range []string{"finpay", "netzme", "prepaid"} {
		if err := c.up.Fault(ctx, stage.Fault{Provider: p, Kind: "down"}); err != nil {
			return err
		}
	}
	for _, r := range []struct {
		op     string
		fields map[string]string
		pin    string
	}{
		{"finpay.reset_pin", phone(offReset), ""},
		{"finpay.bind", phone(offBind), ""},
		{"finpay.unbind", phone(offUnbind), ""},
		{"netzme.forgot_pin", map[string]string{"custIdMerchant": offForgot}, ""},
		{"prepaid.reset_pin", card(), pinOffline},
	} {
		s, err := c.k.Submit(ctx, "id", stage.Wish{Operation: r.op, Fields: r.fields, PIN: r.pin}, "QUEUED")
		if err != nil {
			return fmt.Errorf("%s: %w", r.op, err)
		}
		if !strings.HasPrefix(s.Code, "Q-") || s.Reference == "" {
			return fmt.Errorf("%s: the screen's code is %q and its reference %q", r.op, s.Code, s.Reference)
		}
	}
	return nil
}

func (c *checker) backOnline(ctx context.Context) error {
	if err := c.up.Clear(ctx); err != nil {
		return err
	}
	want := map[string]string{offReset: "succeeded", offBind: "pending", offUnbind: "pending", offForgot: "succeeded", stage.CardURN: "succeeded"}
	for who, state := range want {
		if _, err := c.queued(ctx, who, state); err != nil {
			return err
		}
	}
	for _, e := range []struct{ op, who string }{
		{"finpay.reset_pin", offReset}, {"finpay.bind", offBind}, {"finpay.unbind.1", offUnbind}, {"netzme.forgot_pin", offForgot},
	} {
		if err := c.exactly(ctx, 1, e.op, e.who); err != nil {
			return err
		}
	}
	return c.hasPIN(ctx, 1, pinOffline)
}

func (c *checker) doubtBind(ctx context.Context) error {
	if err := c.up.Fault(ctx, stage.Fault{Provider: "finpay", Operation: "finpay.bind", Kind: "break_after_effect", Times: 1}); err != nil {
		return err
	}
	s, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.bind", Fields: phone(lostBind)}, "PENDING")
	if err != nil {
		return err
	}
	if !strings.HasPrefix(s.Code, "D-") {
		return fmt.Errorf("the screen's code is %q, not one of a doubt", s.Code)
	}
	// The page never reached the customer, so the account stays unlinked and the
	// first call changes nothing: read-back says so once the quiet time is over.
	if _, err := c.queued(ctx, lostBind, "expired"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.bind", lostBind)
}

func (c *checker) doubtUnbind(ctx context.Context) error {
	if err := c.up.SetCustomer(ctx, lostUnbind, true); err != nil {
		return err
	}
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.unbind", Fields: phone(lostUnbind)}, "OTP"); err != nil {
		return err
	}
	otp, err := c.up.OTP(ctx, lostUnbind)
	if err != nil {
		return err
	}
	c.otps = append(c.otps, otp)
	if err := c.up.Fault(ctx, stage.Fault{Provider: "finpay", Operation: "finpay.unbind.2", Kind: "break_after_effect", Times: 1}); err != nil {
		return err
	}
	if err := c.k.Must(ctx, "submit_otp", map[string]string{"otp": otp}); err != nil {
		return err
	}
	if _, err := c.queued(ctx, lostUnbind, "succeeded"); err != nil {
		return err
	}
	if _, err := c.k.WaitFor(ctx, "DONE"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.unbind.2", lostUnbind)
}

func (c *checker) doubtReset(ctx context.Context) error {
	if err := c.up.Fault(ctx, stage.Fault{Provider: "finpay", Operation: "finpay.reset_pin", Kind: "break_after_effect", Times: 1}); err != nil {
		return err
	}
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.reset_pin", Fields: phone(lostReset)}, "PENDING"); err != nil {
		return err
	}
	if _, err := c.queued(ctx, lostReset, "unresolved"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.reset_pin", lostReset)
}

func (c *checker) killed(ctx context.Context) error {
	effect := true
	if err := c.up.Fault(ctx, stage.Fault{Provider: "finpay", Operation: "finpay.reset_pin", Kind: "hang", Effect: &effect, Times: 1}); err != nil {
		return err
	}
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.reset_pin", Fields: phone(killReset)}, "WORKING"); err != nil {
		return err
	}
	for n := 0; ; n++ {
		got, err := c.up.Count(ctx, "finpay.reset_pin", killReset)
		if err != nil {
			return err
		}
		if got == 1 {
			break
		}
		if n > 100 {
			return errors.New("the call did not reach the platform")
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.p.KillAgent()
	if err := c.up.Clear(ctx); err != nil {
		return err
	}
	if err := c.p.StartAgent(ctx); err != nil {
		return err
	}
	r, err := c.queued(ctx, killReset, "in_doubt", "unresolved")
	if err != nil {
		return err
	}
	if r.State == "in_doubt" && r.Reason != "restart" {
		return fmt.Errorf("the doubt's reason is %q", r.Reason)
	}
	if _, err := c.queued(ctx, killReset, "unresolved"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.reset_pin", killReset)
}

func (c *checker) killedWaiting(ctx context.Context) error {
	if err := c.up.Fault(ctx, stage.Fault{Provider: "finpay", Kind: "down"}); err != nil {
		return err
	}
	if _, err := c.k.Submit(ctx, "id", stage.Wish{Operation: "finpay.reset_pin", Fields: phone(killWait)}, "QUEUED"); err != nil {
		return err
	}
	c.p.KillAgent()
	if err := c.p.StartAgent(ctx); err != nil {
		return err
	}
	if _, err := c.queued(ctx, killWait, "queued"); err != nil {
		return err
	}
	if err := c.up.Clear(ctx); err != nil {
		return err
	}
	if _, err := c.queued(ctx, killWait, "succeeded"); err != nil {
		return err
	}
	return c.exactly(ctx, 1, "finpay.reset_pin", killWait)
}

func (c *checker) noViolations(ctx context.Context) error {
	v, err := c.up.Violations(ctx)
	if err == nil && len(v) > 0 {
		err = fmt.Errorf("%d violations, the first: %s", len(v), v[0])
	}
	return err
}

// noSecrets looks for every secret that went through, as text, in hex and in
// base64, in every file that the agent wrote and in every frame it sent.
func (c *checker) noSecrets(context.Context) error {
	if len(c.otps) == 0 {
		return errors.New("no one-time password was used")
	}
	secrets := append([]string{pinOnline, pinOffline, c.s.TokenPIN, c.s.StaffCode, c.s.FinpaySecret, c.s.NetzmeSecret, c.s.EnvelopeKey}, c.otps...)
	needles := stage.NewNeedles(secrets...)
	if err := needles.Find("the frames to the screen", c.k.Frames()); err != nil {
		return err
	}
	return needles.FindIn(4, c.s.State(), c.s.Path("log"), c.s.Run())
}

// queued waits until the newest request of a customer is in one of the states, as
// field operations see it: the customer's identifier is masked but for its end.
func (c *checker) queued(ctx context.Context, who string, states ...string) (stage.Row, error) {
	var last stage.Row
	for {
		rows, err := c.s.Queue(ctx)
		if err != nil {
			return last, err
		}
		for _, r := range rows {
			if strings.HasSuffix(r.Customer, who[len(who)-3:]) && len(r.Customer) == len(r.Customer[:strings.Index(r.Customer, ":")+1])+len(who) {
				last = r
			}
		}
		for _, s := range states {
			if last.State == s {
				return last, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("request of …%s is %s (%s) and not %s: %w", who[len(who)-3:], last.State, last.Reason, strings.Join(states, " or "), ctx.Err())
		case <-time.After(150 * time.Millisecond):
		}
	}
}
