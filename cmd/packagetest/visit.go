package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"time"

	"gardu/cmd/demo/stage"
)

// Where the visitor's own things are inside the container. Nothing of it is in a
// package.
const (
	visitDir = "/gardu-test"
	visitRun = "/run/gardu"
	pagePath = "/"
)

// shortTimes let a doubt settle while somebody waits.
var shortTimes = stage.Plan{
	Delivery: stage.Delivery{
		RetryBase: "200ms", RetryMax: "1s", ReadBase: "300ms", ReadMax: "1s",
		Quiet: "4s", Unresolved: "8s", Probe: "1s", Call: "10s",
	},
	PINMax: 12, OTP: "90471836",
}

// visitor is this program inside the container: a customer and the platforms.
type visitor struct {
	s  *stage.Stage
	up stage.Platforms
}

// visit does one thing inside the container and prints what came of it.
func visit(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("visit what?")
	}
	s, err := stage.Installed(ctx, visitDir, visitRun, shortTimes)
	if err != nil {
		return err
	}
	s.Screen = "127.0.0.1:8700" // as it is delivered: the machine has a network of its own
	v := &visitor{s: s, up: s.Platforms()}
	switch args[0] {
	case "repository":
		return serveRepository(ctx, args[1:])
	case "plan":
		return json.NewEncoder(os.Stdout).Encode(s)
	case "introduce":
		return s.Introduce(ctx)
	case "operations":
		return v.operations(ctx)
	case "probe":
		return v.probe(ctx, args[1:])
	case "hold":
		return v.hold(ctx, args[1:])
	case "link":
		return v.link(ctx, args[1:])
	case "effects":
		return v.effects(ctx, args[1:])
	case "session":
		return v.session(ctx)
	}
	return fmt.Errorf("nobody knows how to visit %q", args[0])
}

const testPIN = "837261504962"

func card() map[string]string {
	return map[string]string{"urn": stage.CardURN, "last4Digits": stage.CardLast4, "customerId": stage.CardCustomer}
}

func phone(n string) map[string]string { return map[string]string{"phoneNo": n} }

// operations drives the five operations as a customer does and asks the platforms
// whether each happened once. It begins with customers whom nobody has served.
func (v *visitor) operations(ctx context.Context) error {
	if err := v.up.Reset(ctx); err != nil {
		return err
	}
	k, err := v.s.Kiosk(ctx)
	if err != nil {
		return err
	}
	defer k.Leave()
	for _, o := range []struct {
		name string
		do   func() error
	}{
		{"finpay.reset_pin", func() error {
			return v.once(ctx, k, stage.Wish{Operation: "finpay.reset_pin", Fields: phone(stage.Customer)}, "finpay.reset_pin", stage.Customer)
		}},
		{"finpay.bind", func() error {
			if _, err := k.Submit(ctx, "id", stage.Wish{Operation: "finpay.bind", Fields: phone(stage.Customer)}, "BIND_QR"); err != nil {
				return err
			}
			if err := v.up.Link(ctx, stage.Customer); err != nil {
				return err
			}
			if _, err := k.WaitFor(ctx, "DONE"); err != nil {
				return err
			}
			return v.counted(ctx, "finpay.link", stage.Customer)
		}},
		{"finpay.unbind", func() error {
			if _, err := k.Submit(ctx, "id", stage.Wish{Operation: "finpay.unbind", Fields: phone(stage.Customer)}, "OTP"); err != nil {
				return err
			}
			otp, err := v.up.OTP(ctx, stage.Customer)
			if err != nil {
				return err
			}
			if err := k.Must(ctx, "submit_otp", map[string]string{"otp": otp}); err != nil {
				return err
			}
			if _, err := k.WaitFor(ctx, "DONE"); err != nil {
				return err
			}
			return v.counted(ctx, "finpay.unbind.2", stage.Customer)
		}},
		{"netzme.forgot_pin", func() error {
			// Its own wait is an hour's: each visit is another merchant's.
			merchant := fmt.Sprintf("M_pkg%d", time.Now().Unix())
			return v.once(ctx, k, stage.Wish{Operation: "netzme.forgot_pin", Fields: map[string]string{"custIdMerchant": merchant}}, "netzme.forgot_pin", merchant)
		}},
		{"prepaid.reset_pin", func() error {
			if _, err := k.Submit(ctx, "id", stage.Wish{Operation: "prepaid.reset_pin", Fields: card(), PIN: testPIN}, "DONE"); err != nil {
				return err
			}
			return v.hasPIN(ctx)
		}},
	} {
		if err := o.do(); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		fmt.Println(o.name)
	}
	broken, err := v.up.Violations(ctx)
	if err == nil && len(broken) > 0 {
		err = fmt.Errorf("the platforms saw %d broken rules, the first: %s", len(broken), broken[0])
	}
	return err
}

func (v *visitor) once(ctx context.Context, k *stage.Kiosk, w stage.Wish, effect, subject string) error {
	if _, err := k.Submit(ctx, "id", w, "DONE"); err != nil {
		return err
	}
	return v.counted(ctx, effect, subject)
}

func (v *visitor) counted(ctx context.Context, effect, subject string) error {
	n, err := v.up.Count(ctx, effect, subject)
	if err == nil && n != 1 {
		err = fmt.Errorf("%s happened %d times", effect, n)
	}
	return err
}

// hasPIN asks the platform for the digest of the very PIN that was typed.
func (v *visitor) hasPIN(ctx context.Context) error {
	all, err := v.up.Effects(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(v.s.PINSalt + testPIN))
	n := 0
	for _, e := range all {
		if e.Operation == "prepaid.reset_pin" && e.PINDigest == hex.EncodeToString(sum[:]) {
			n += e.Count
		}
	}
	if n != 1 {
		return fmt.Errorf("the platform got the PIN %d times", n)
	}
	return nil
}

// hold hands in a request while the link is down, so that it waits: hold PHONE for
// a reset of a PIN without one, hold pin for one that carries a PIN.
func (v *visitor) hold(ctx context.Context, args []string) error {
	w := stage.Wish{Operation: "prepaid.reset_pin", Fields: card(), PIN: testPIN}
	if len(args) == 1 && args[0] != "pin" {
		w = stage.Wish{Operation: "finpay.reset_pin", Fields: phone(args[0])}
	}
	k, err := v.s.Kiosk(ctx)
	if err != nil {
		return err
	}
	defer k.Leave()
	_, err = k.Submit(ctx, "id", w, "QUEUED")
	return err
}

// link takes the line away, and with it the platforms' memory, or brings it back:
// link down, link up.
func (v *visitor) link(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "up" {
		return v.up.Clear(ctx)
	}
	errs := []error{v.up.Reset(ctx)} // what happened before is not counted
	for _, p := range []string{"finpay", "netzme", "prepaid"} {
		errs = append(errs, v.up.Fault(ctx, stage.Fault{Provider: p, Kind: "down"}))
	}
	return errors.Join(errs...)
}

// effects waits until something has happened to somebody, and says how often:
// effects OPERATION SUBJECT, or effects pin.
func (v *visitor) effects(ctx context.Context, args []string) error {
	try := v.hasPIN
	if len(args) == 2 {
		try = func(ctx context.Context) error { return v.counted(ctx, args[0], args[1]) }
	}
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// session keeps a customer in the middle of typing until standard input ends.
func (v *visitor) session(ctx context.Context) error {
	k, err := v.s.Kiosk(ctx)
	if err != nil {
		return err
	}
	defer k.Leave()
	if err := k.ToIdent(ctx, "id", "finpay.reset_pin"); err != nil {
		return err
	}
	fmt.Println("typing")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Probed is what a probe saw.
type Probed struct {
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	Longest  time.Duration `json:"longest"` // that one request waited
	Why      []string      `json:"why"`     // of the first failures
}

// probe loads the page again and again, each time on a new connection as a browser
// that was just opened, until the file that is named appears, and at least 300
// times. A request fails when it is not answered with the page within a minute.
func (v *visitor) probe(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("probe FILE: it ends when the file is there")
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	c := &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	url, err := v.s.Ticket(ctx)
	if err != nil {
		return err
	}
	if err := load(ctx, c, url); err != nil {
		return fmt.Errorf("open the screen: %w", err)
	}
	fmt.Println("probing")
	var p Probed
	const least = 300
	for {
		begin := time.Now()
		err := load(ctx, c, "http://"+v.s.Screen+pagePath)
		p.Requests++
		p.Longest = max(p.Longest, time.Since(begin))
		if err != nil {
			p.Failed++
			if len(p.Why) < 3 {
				p.Why = append(p.Why, err.Error())
			}
		}
		if _, err := os.Stat(args[0]); err == nil && p.Requests >= least {
			return json.NewEncoder(os.Stdout).Encode(p)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func load(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := c.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	_ = r.Body.Close()
	switch {
	case err != nil:
		return err
	case r.StatusCode != http.StatusOK, !strings.Contains(string(b), "gardu-page"):
		return fmt.Errorf("answered %s: %.80s", r.Status, b)
	}
	return nil
}
