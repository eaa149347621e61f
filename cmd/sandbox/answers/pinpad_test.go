package answers_test

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// pad is an encrypting PIN pad: what it hands over is one AES block in hexadecimal,
// of the length and the digits with a random fill, after ISO 9564-1.
type pad struct {
	key    []byte
	opened atomic.Int64
	away   atomic.Bool
}

func (p *pad) Field(int, int) txn.Field { return txn.Field{Name: "newPIN", Min: 32, Max: 32} }

// press is what a customer does at the pad.
func (p *pad) press(digits string) string {
	block := make([]byte, aes.BlockSize)
	_, _ = rand.Read(block)
	block[0] = byte(len(digits))
	copy(block[1:], digits)
	c, err := aes.NewCipher(p.key)
	if err != nil {
		panic(err)
	}
	c.Encrypt(block, block)
	return hex.EncodeToString(block)
}

func (p *pad) Open(_ context.Context, entered []byte, use func([]byte)) error {
	if p.away.Load() {
		return errors.New("unplugged")
	}
	block := make([]byte, aes.BlockSize)
	defer clear(block)
	if _, err := hex.Decode(block, entered); err != nil {
		return err
	}
	c, err := aes.NewCipher(p.key)
	if err != nil {
		return err
	}
	c.Decrypt(block, block)
	p.opened.Add(1)
	use(block[1 : 1+min(int(block[0]), 12)])
	return nil
}

// TestAPINPadFromTheCustomerToThePlatform: the pad's block goes through screen, engine
// and journal, and the platform has the digits. Nothing between them ever had.
func TestAPINPadFromTheCustomerToThePlatform(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const salt = "salt of the pad's test"
	p := &pad{key: []byte("a key of the pad")}
	b := newBooth(t, plan{pins: p, sandbox: func(c *upstream.Config) { c.PINSalt = salt }})
	fields := map[string]string{"urn": "70000000008", "last4Digits": "1745", "customerId": "IN00001201001868"}
	b.pin = p.press(canaryPIN)
	require.NoError(t, b.ask(ctx, txn.PrepaidResetPIN, fields))
	s, err := b.page.at(ctx, ui.Done)
	require.NoError(t, err)
	require.Equal(t, "S-OK", s.Code)
	effects := b.Effects()
	require.Len(t, effects, 1)
	require.Equal(t, upstream.PINDigest(salt, []byte(canaryPIN)), effects[0].PINDigest, "the platform has the digits that were pressed")
	require.Positive(t, p.opened.Load())
	b.requireSilent(t, canaryPIN)
	b.requireSilent(t, b.pin)

	// A pad that is unplugged before the message is built: nothing is sent.
	p.away.Store(true)
	require.NoError(t, b.home(ctx))
	fields["urn"], fields["customerId"] = "70000000009", "IN00001201001869"
	b.pin = p.press(canaryPIN)
	require.NoError(t, b.ask(ctx, txn.PrepaidResetPIN, fields))
	s, err = b.page.until(ctx, "a result", resting)
	require.NoError(t, err)
	require.NotEqual(t, ui.ToneDone, s.Tone)
	require.NotEqual(t, ui.ToneDoubt, s.Tone)
	requireWords(t, "pad away", s)
	require.Len(t, b.Effects(), 1)
	require.Empty(t, b.Violations())
	b.requireSilent(t, canaryPIN)
}
