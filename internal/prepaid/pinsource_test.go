package prepaid

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// pinPad is an encrypting PIN pad: its block is one AES block of a format like that
// of ISO 9564-1 (length, digits, random fill), in hexadecimal.
type pinPad struct {
	key   []byte
	err   error
	opens int
	gave  [][]byte // the buffers of digits, to be looked at afterwards
}

const blockDigits = 32

func (p *pinPad) Field(int, int) txn.Field {
	return txn.Field{Name: FieldNewPIN, Min: blockDigits, Max: blockDigits}
}

// press is what a customer does at the pad.
func (p *pinPad) press(t *testing.T, digits string) []byte {
	t.Helper()
	block := make([]byte, aes.BlockSize)
	_, _ = rand.Read(block)
	block[0] = byte(len(digits))
	copy(block[1:], digits)
	c, err := aes.NewCipher(p.key)
	require.NoError(t, err)
	c.Encrypt(block, block)
	return []byte(hex.EncodeToString(block))
}

func (p *pinPad) Open(_ context.Context, entered []byte, use func([]byte)) error {
	p.opens++
	if p.err != nil {
		return p.err
	}
	block := make([]byte, aes.BlockSize)
	if _, err := hex.Decode(block, entered); err != nil {
		return err
	}
	c, err := aes.NewCipher(p.key)
	if err != nil {
		return err
	}
	c.Decrypt(block, block)
	digits := block[1 : 1+min(int(block[0]), 15)]
	p.gave = append(p.gave, block)
	use(digits)
	clear(block)
	return nil
}

// atPad is a provider whose PINs come from a pad, and a call of it.
func atPad(t *testing.T, client *fakeClient, digits string) (*Provider, *pinPad, *softCipher, txn.Call) {
	t.Helper()
	pad := &pinPad{key: []byte("a key of the pad")}
	c := newCipher(t)
	p, err := New(testConfig(), testSecrets(), c, pad, client, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	call := testCall()
	call.Secret = secret.New(pad.press(t, digits))
	require.NoError(t, p.Policies()[0].Secret.Check(call.Secret.Bytes()), "screen and engine take the block")
	require.Error(t, p.Policies()[0].Secret.Check([]byte(digits)), "and no digits in clear")
	return p, pad, c, call
}

func TestAPINPadsBlockBecomesThePIN(t *testing.T) {
	client := &fakeClient{do: func(wire.Request) (*wire.Reply, error) {
		return &wire.Reply{Status: 200, Body: []byte(sealedReply(t, nil))}, nil
	}}
	p, pad, c, call := atPad(t, client, canaryPIN)
	a := p.Submit(t.Context(), call)
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, canaryPIN, asked(t, client.sent[0])["newPIN"])
	require.NotContains(t, string(call.Secret.Bytes()), canaryPIN, "the engine and its journal have the block alone")
	require.Equal(t, 2, pad.opens, "for the message, and for the look at the answer")
	for _, b := range pad.gave {
		require.Equal(t, make([]byte, aes.BlockSize), b)
	}
	for _, b := range c.handed {
		require.Equal(t, make([]byte, len(b)), b, "the text with the PIN is cleared")
	}
}

func TestAPINPadThatDoesNotOpenItsBlock(t *testing.T) {
	client := answers(200, "")
	p, pad, _, call := atPad(t, client, canaryPIN)
	pad.err = errors.New("unplugged")
	a := p.Submit(t.Context(), call)
	require.Equal(t, txn.NotSent, a.Outcome)
	require.Equal(t, txn.ReasonKeystore, a.Reason)
	require.Empty(t, client.sent)
}

func TestAPINPadsDigitsAreCountedToo(t *testing.T) {
	client := answers(200, "")
	p, _, _, call := atPad(t, client, "123")
	a := p.Submit(t.Context(), call)
	require.Equal(t, txn.WasRejected, a.Outcome)
	require.Equal(t, txn.ReasonBadField, a.Reason)
	require.Contains(t, a.Text, "not sent")
	require.NotContains(t, a.Text, "123")
	require.Empty(t, client.sent)
}

func TestNoTextRepeatsThePadsPIN(t *testing.T) {
	for _, away := range []bool{false, true} {
		var pad *pinPad
		client := &fakeClient{do: func(wire.Request) (*wire.Reply, error) {
			if away {
				pad.err = errors.New("unplugged")
			}
			return &wire.Reply{Status: 200, Body: []byte(sealedReply(t, map[string]any{
				"responseCode": "X" + canaryPIN, "responseMessage": "your PIN is " + canaryPIN, "accosaRefNo": canaryPIN,
			}))}, nil
		}}
		p, fake, _, call := atPad(t, client, canaryPIN)
		pad = fake
		a := p.Submit(t.Context(), call)
		require.Equal(t, txn.Unknown, a.Outcome)
		require.NotContains(t, a.Code+a.Text, canaryPIN, "away: %t", away)
		require.NotContains(t, a.Data[DataRefNo], canaryPIN)
	}
}
