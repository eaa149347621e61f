package snap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// The files in testdata/samples are the samples of the source documents as they
// stand there, with their contradictions, and variants of them that other servers
// send: numbers where texts are and the other way round, fields that are missing or
// misspelt. *.answer.golden is what is made of each; UPDATE_GOLDEN=1 writes them.

func sampleFiles(t *testing.T, suffix string) (names []string) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join("testdata", "samples", "*"+suffix))
	require.NoError(t, err)
	for _, f := range list {
		names = append(names, strings.TrimSuffix(filepath.Base(f), suffix))
	}
	require.NotEmpty(t, names)
	return names
}

// sampleCall is the call that a sample belongs to, with the samples' own values.
func sampleCall(name string) txn.Call {
	op, step := txn.FinpayResetPIN, 1
	switch {
	case strings.HasPrefix(name, "finpay_bind"):
		op = txn.FinpayBind
	case strings.HasPrefix(name, "finpay_unbind_1"):
		op = txn.FinpayUnbind
	case strings.HasPrefix(name, "finpay_unbind_2"):
		op, step = txn.FinpayUnbind, 2
	case strings.HasPrefix(name, "netzme"):
		op = txn.NetzmeForgotPIN
	}
	c := request(op, step)
	switch op {
	case txn.FinpayResetPIN:
		c.Request.Reference, c.Request.Fields = "789123434523423470", map[string]string{fieldPhone: "08113929190"}
	case txn.FinpayBind:
		c.Request.Reference, c.Request.Fields = "9277141702082429358", map[string]string{fieldPhone: "084774859277"}
	case txn.FinpayUnbind:
		c.Request.Fields = map[string]string{fieldPhone: "080012341373"}
		if step == 2 {
			c.Secret = secret.Clone([]byte("696969"))
		}
	case txn.NetzmeForgotPIN:
		c.Request.Reference, c.Request.Fields = "testinga202203090000000001", map[string]string{fieldCustomerID: "M_F5rX23Vw"}
	case txn.PrepaidResetPIN:
	}
	return c
}

func sampleProvider(t *testing.T, name string, h HTTP) txn.Provider {
	t.Helper()
	if strings.HasPrefix(name, "netzme") {
		return newNetzme(t, h, nil)
	}
	return newFinpay(t, h, func(c *FinpayConfig) {
		c.InquireBeforeBind, c.MerchantID = false, "F7778YIF6A3TC"
		c.SendBindingReference, c.BindingReferenceField = true, "refrenceNo" // as the sample spells it
	})
}

// TestSampleRequests: with the samples' values our bodies are the samples, byte for
// byte, but for their spaces. The bound reference number stands before the phone in
// the sample, and so it does in ours.
func TestSampleRequests(t *testing.T) {
	for _, name := range sampleFiles(t, ".request.json") {
		t.Run(name, func(t *testing.T) {
			var want bytes.Buffer
			require.NoError(t, json.Compact(&want, []byte(sample(t, name+".request.json"))))
			h := &fakeHTTP{answer: always(500, `{}`)}
			sampleProvider(t, name, h).Submit(t.Context(), sampleCall(name))
			var got string
			for _, r := range h.requests {
				if !strings.Contains(r.URL, "access-token") {
					require.Empty(t, got, "one call")
					got = string(r.Body)
				}
			}
			require.Equal(t, want.String(), got)
		})
	}
}

// TestSampleHeaders: the headers of the one sample that has them are the ones we
// send, and no other is missing.
func TestSampleHeaders(t *testing.T) {
	curl := sample(t, "netzme_forgot_pin.curl.txt")
	h := &fakeHTTP{answer: always(500, `{}`)}
	sampleProvider(t, "netzme", h).Submit(t.Context(), sampleCall("netzme"))
	sent := h.to("/merchant/forgot-pin")[0].Header
	n := 0
	for _, line := range strings.Split(curl, "\n") {
		_, rest, ok := strings.Cut(line, "--header '")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(strings.TrimSuffix(rest, `\`)), "'"), ": ")
		value = strings.TrimSuffix(strings.TrimSpace(value), "'")
		require.Len(t, sent[name], 1, name)
		n++
		switch name {
		case "X-SIGNATURE":
			require.Len(t, sent[name][0], len(value), "128 hexadecimal digits, small")
			require.Equal(t, strings.ToLower(sent[name][0]), sent[name][0])
		case "X-EXTERNAL-ID":
			require.Len(t, sent[name][0], len(value), "32 digits")
		case "X-TIMESTAMP":
			require.Len(t, sent[name][0], len(value))
			require.Equal(t, value[19:], sent[name][0][19:])
		case "Authorization":
			require.True(t, strings.HasPrefix(sent[name][0], "Bearer "))
		default:
			require.Equal(t, value, sent[name][0], name)
		}
	}
	require.Equal(t, 7, n, "every header of the sample")
}

// TestSampleAnswers holds what is made of each answer.
func TestSampleAnswers(t *testing.T) {
	linkage := ""
	for _, name := range sampleFiles(t, ".answer.json") {
		t.Run(name, func(t *testing.T) {
			body := sample(t, name+".answer.json")
			status := 200
			if code := between(body, `"responseCode":"`, `"`); strings.HasPrefix(code, "4") {
				_, err := fmt.Sscanf(code[:3], "%d", &status)
				require.NoError(t, err)
			}
			a := sampleProvider(t, name, &fakeHTTP{answer: always(status, body)}).Submit(t.Context(), sampleCall(name))
			golden(t, filepath.Join("samples", name+".answer.golden"), describe(a))
			if name == "finpay_bind" {
				linkage = between(body, `"linkageToken":`, `",`)
				linkage = strings.Trim(strings.TrimSpace(linkage), `"`)
				require.Len(t, linkage, 881, "longer than the document's own table allows")
				require.Contains(t, a.Data[txn.DataLinkURL], linkage)
			}
		})
	}
	require.NotEmpty(t, linkage)
}

// describe is an answer in lines that a person can judge.
func describe(a txn.Answer) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	line("outcome", a.Outcome.String())
	line("reason", string(a.Reason))
	line("code", a.Code)
	line("text", a.Text)
	line("await", string(a.Await))
	if a.AwaitFor > 0 {
		line("await for", a.AwaitFor.String())
	}
	if a.Cooldown > 0 {
		line("cooldown", a.Cooldown.String())
	}
	line("alarm", a.Alarm)
	if a.Hold {
		line("hold", "yes")
	}
	keys := make([]string, 0, len(a.Data))
	for k := range a.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		line(k, a.Data[k])
	}
	return b.String()
}

// TestSampleGoldensHaveTheirSamples: no golden file is left over.
func TestSampleGoldensHaveTheirSamples(t *testing.T) {
	for _, name := range sampleFiles(t, ".answer.golden") {
		_, err := os.Stat(filepath.Join("testdata", "samples", name+".answer.json"))
		require.NoError(t, err)
	}
}
