package answers_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// tokensWanted is a booth whose PIN reset needs the customer's token.
func tokensWanted(c *snap.FinpayConfig) { c.ResetPIN.CustomerToken, c.DeviceID = true, "kiosk-12" }

func sandboxWantsTokens(c *upstream.Config) {
	c.Finpay.CustomerTokenOperations = []string{"finpay.reset_pin"}
}

// TestBindingToItsEnd: link, page, code typed at the kiosk, customer token, its use,
// its renewal after a refusal, and its end with the unbinding.
func TestBindingToItsEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := newBooth(t, plan{sandbox: sandboxWantsTokens, finpay: tokensWanted, retry: 500 * time.Millisecond})
	const who = "081139291900"
	fields := map[string]string{"phoneNo": who}
	ask := func(op txn.Operation, states ...ui.State) *showing {
		t.Helper()
		require.NoError(t, b.home(ctx))
		require.NoError(t, b.ask(ctx, op, fields))
		s, err := b.page.at(ctx, states...)
		require.NoError(t, err)
		return s
	}
	s := ask(txn.FinpayResetPIN, ui.Fail)
	require.Equal(t, "F-BIND_AGAIN", s.Code, "without a token the customer has to bind")
	requireWords(t, "bind again", s)

	ask(txn.FinpayBind, ui.BindQR)
	done, err := b.Link(who)
	require.NoError(t, err)
	s, err = b.page.until(ctx, "the code is wanted", func(s *showing) bool { return s.Title == "BIND_QR.title.code_wanted" })
	require.NoError(t, err, "linked by inquiry, and the code is still to come")
	requireWords(t, "code wanted", s)
	code, err := b.page.do(ctx, "submit_code", map[string]string{"code": "no-such-code"})
	require.NoError(t, err)
	require.Equal(t, "code_refused", code)
	require.NoError(t, b.page.must(ctx, "submit_code", map[string]string{"code": done.AuthCode}))
	s, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Equal(t, "S-CONFIRMED", s.Code)

	require.Equal(t, ui.Done, ask(txn.FinpayResetPIN, ui.Done, ui.Fail).State)
	// Every token ends; the customer's is renewed with its refresh token, both once.
	_, err = b.Inject(upstream.Fault{Provider: upstream.Finpay, Kind: upstream.KindExpireTokens})
	require.NoError(t, err)
	require.NoError(t, b.Clear(ctx, upstream.ClearFilter{}))
	require.Equal(t, ui.Done, ask(txn.FinpayResetPIN, ui.Done, ui.Fail).State)
	require.Equal(t, 2, b.EffectCount("finpay.reset_pin", ""))

	require.Equal(t, "N-ALREADY_LINKED", ask(txn.FinpayBind, ui.Fail).Code)
	ask(txn.FinpayUnbind, ui.OTP)
	otp, err := b.OTP(who)
	require.NoError(t, err)
	require.NoError(t, b.page.must(ctx, "submit_otp", map[string]string{"otp": otp}))
	_, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Equal(t, "F-BIND_AGAIN", ask(txn.FinpayResetPIN, ui.Fail).Code, "the token ended with the binding")
	require.Empty(t, b.Violations())
	b.requireSilent(t, done.AuthCode)
}

// TestBindingWithoutItsCode: nobody brings the code. The account is linked all the
// same; what needs the token asks to bind again, which opens the page once more.
func TestBindingWithoutItsCode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := newBooth(t, plan{sandbox: sandboxWantsTokens, finpay: tokensWanted})
	const who = "081139291901"
	fields := map[string]string{"phoneNo": who}
	require.NoError(t, b.ask(ctx, txn.FinpayBind, fields))
	_, err := b.page.at(ctx, ui.BindQR)
	require.NoError(t, err)
	_, err = b.Link(who)
	require.NoError(t, err)
	_, err = b.page.until(ctx, "the code is wanted", func(s *showing) bool { return s.Title == "BIND_QR.title.code_wanted" })
	require.NoError(t, err)
	b.pass(5 * time.Minute)
	_, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err, "the page is over, and the inquiry says LINKED")

	require.NoError(t, b.home(ctx))
	require.NoError(t, b.ask(ctx, txn.FinpayBind, fields))
	_, err = b.page.at(ctx, ui.BindQR)
	require.NoError(t, err, "linked already, but without the token: the page opens once more")
	done, err := b.Link(who)
	require.NoError(t, err)
	require.NoError(t, b.page.must(ctx, "submit_code", map[string]string{"code": done.AuthCode}))
	_, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.NoError(t, b.home(ctx))
	require.NoError(t, b.ask(ctx, txn.FinpayResetPIN, fields))
	_, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Empty(t, b.Violations())
}

// TestOneTimePasswordsToTheirEnd: wrong, another one by a new first call, blocked.
func TestOneTimePasswordsToTheirEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := newBooth(t, plan{})
	const who = "081139291902"
	require.NoError(t, b.SetCustomer(who, true))
	require.NoError(t, b.ask(ctx, txn.FinpayUnbind, map[string]string{"phoneNo": who}))
	_, err := b.page.at(ctx, ui.OTP)
	require.NoError(t, err)
	first := b.newest()
	require.NoError(t, b.page.must(ctx, "submit_otp", map[string]string{"otp": "0000"}))
	_, err = b.page.at(ctx, ui.OTPBad)
	require.NoError(t, err)
	old, err := b.OTP(who)
	require.NoError(t, err)

	require.NoError(t, b.page.must(ctx, "resend", nil))
	_, err = b.page.until(ctx, "a new password", func(s *showing) bool { return s.State == ui.OTP && b.newest().ID != first.ID })
	require.NoError(t, err)
	require.Equal(t, 2, b.EffectCount("finpay.unbind.1", ""), "a new first call")
	fresh, err := b.OTP(who)
	require.NoError(t, err)
	if old != fresh {
		require.NoError(t, b.page.must(ctx, "submit_otp", map[string]string{"otp": old}))
		_, err = b.page.at(ctx, ui.OTPBad)
		require.NoError(t, err, "the earlier password is dead")
	}
	require.NoError(t, b.page.must(ctx, "submit_otp", map[string]string{"otp": fresh}))
	_, err = b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Equal(t, 1, b.EffectCount("finpay.unbind.2", ""))

	require.NoError(t, b.SetCustomer(who, true))
	require.NoError(t, b.home(ctx))
	require.NoError(t, b.ask(ctx, txn.FinpayUnbind, map[string]string{"phoneNo": who}))
	for range 3 {
		_, err = b.page.at(ctx, ui.OTP, ui.OTPBad)
		require.NoError(t, err)
		before := b.page.mark()
		require.NoError(t, b.page.must(ctx, "submit_otp", map[string]string{"otp": "0000"}))
		_, err = b.page.until(ctx, "the answer", func(s *showing) bool {
			return b.page.mark() > before && !s.Busy && (s.State == ui.OTPBad || s.State == ui.OTPLocked)
		})
		require.NoError(t, err)
	}
	s, err := b.page.at(ctx, ui.OTPLocked)
	require.NoError(t, err)
	require.Equal(t, "F-OTP_LIMIT", s.Code, "the kiosk lets nobody try on")
	require.Empty(t, b.Violations())
}

// TestPINInAnAnswerGoesNowhere: a platform that answers with the new PIN in clear.
// It reaches neither log, nor journal, nor screen.
func TestPINInAnAnswerGoesNowhere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const leaked = "594813"
	b := newBooth(t, plan{sandbox: func(c *upstream.Config) { c.Netzme.LeakPIN = leaked }})
	require.NoError(t, b.ask(ctx, txn.NetzmeForgotPIN, map[string]string{"custIdMerchant": "M_TB1NMLig"}))
	s, err := b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Equal(t, "S-OK", s.Code)
	r, err := b.engine.Get(ctx, b.newest().ID)
	require.NoError(t, err)
	stored, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotEmpty(t, r.Data[txn.DataAnswerText], "the message itself is kept for operators")
	for _, pin := range []string{leaked, "5-9-4-8-1-3", "5-9-4"} {
		require.NotContains(t, string(stored), pin, "the journal's record")
		b.requireSilent(t, pin)
	}
	require.NotZero(t, r.Cooldown, "what else the answer says is read")

	require.NoError(t, b.home(ctx))
	for _, step := range []struct {
		name string
		args map[string]string
	}{{"start", nil}, {"choose", map[string]string{"operation": string(txn.NetzmeForgotPIN)}}, {"agree", nil}} {
		require.NoError(t, b.page.must(ctx, step.name, step.args))
	}
	code, err := b.page.do(ctx, "submit_fields", map[string]string{"custIdMerchant": "M_TB1NMLig"})
	require.NoError(t, err)
	require.Equal(t, "cooldown", code)
	s, err = b.page.at(ctx, ui.Cooldown)
	require.NoError(t, err)
	requireWords(t, "cooldown", s)
}

// requireSilent looks for what must be nowhere: in the log, in what the screen got,
// and in every file of the kiosk.
func (b *booth) requireSilent(t *testing.T, what string) {
	t.Helper()
	require.NotContains(t, b.log.String(), what, "the log")
	require.NotContains(t, b.page.everything(), what, "the screen")
	files := 0
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil // a key file of a secret that has just been destroyed
		}
		if err != nil {
			return err
		}
		f, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		require.NotContains(t, string(f), what, path)
		return err
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, files, 2, "journal and witness")
}
