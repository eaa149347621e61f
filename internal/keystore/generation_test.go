package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

func TestNamesOfGenerations(t *testing.T) {
	for _, c := range []struct {
		label string
		want  keystore.Name
		text  string
	}{
		{"finpay-sign", keystore.Name{Base: "finpay-sign", Number: 1}, "finpay-sign"},
		{"finpay-sign@g1", keystore.Name{Base: "finpay-sign", Number: 1, Given: true}, "finpay-sign"},
		{"finpay-sign@g2", keystore.Name{Base: "finpay-sign", Number: 2, Given: true}, "finpay-sign@g2"},
		{"finpay-sign@g12~pending", keystore.Name{Base: "finpay-sign", Number: 12, Given: true, Pending: true}, "finpay-sign@g12"},
		{"a@g2@g3", keystore.Name{Base: "a@g2", Number: 3, Given: true}, "a@g2@g3"},
		{"kek~pending", keystore.Name{Base: "kek~pending", Number: 1}, "kek~pending"},
		{"kek@g0", keystore.Name{Base: "kek@g0", Number: 1}, "kek@g0"},
		{"kek@g02", keystore.Name{Base: "kek@g02", Number: 1}, "kek@g02"},
		{"kek@g", keystore.Name{Base: "kek@g", Number: 1}, "kek@g"},
		{"@g2", keystore.Name{Base: "@g2", Number: 1}, "@g2"},
		{"kek@g9999999", keystore.Name{Base: "kek@g9999999", Number: 1}, "kek@g9999999"},
	} {
		got := keystore.ParseName(c.label)
		require.Equal(t, c.want, got, c.label)
		require.Equal(t, c.text, got.String(), c.label)
		require.Equal(t, c.label, got.Label(), c.label)
	}
}

func TestStatesFollowFromLabels(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels []string
		want   []keystore.Generation
	}{
		{"alone", []string{"k"}, []keystore.Generation{{Number: 1, State: keystore.StateActive, Label: "k"}}},
		{
			"one of each", []string{"k@g3~pending", "k", "k@g2", "k@gx", "other"},
			[]keystore.Generation{
				{Number: 1, State: keystore.StateRetiring, Label: "k"},
				{Number: 2, State: keystore.StateActive, Label: "k@g2"},
				{Number: 3, State: keystore.StatePending, Label: "k@g3~pending"},
			},
		},
		{
			"put back", []string{"k@g2~pending", "k@g1"},
			[]keystore.Generation{
				{Number: 1, State: keystore.StateActive, Label: "k@g1"},
				{Number: 2, State: keystore.StatePending, Label: "k@g2~pending"},
			},
		},
		{"none", nil, []keystore.Generation{}},
	} {
		require.Equal(t, c.want, keystore.States("k", c.labels), c.name)
	}
}

// TestARunningStoreTakesUpTheNextGeneration has one program use a key while
// another makes, activates, puts back and destroys generations of it.
func TestARunningStoreTakesUpTheNextGeneration(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	agent, ops := tok.Open(t), tok.Open(t, func(o *keystore.Options) { o.LatchPath += "2" })
	ctx := t.Context()
	generate(t, ops, keystore.KindRSA2048, "finpay-sign")
	g, err := agent.Signer("pkcs11:object=finpay-sign")
	require.NoError(t, err)
	public := func() *rsa.PublicKey {
		t.Helper()
		sig, err := g.SignSHA256(ctx, []byte("m"))
		require.NoError(t, err)
		pub, ok := g.Public().(*rsa.PublicKey)
		require.True(t, ok)
		d := sha256.Sum256([]byte("m"))
		require.NoError(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, d[:], sig))
		return pub
	}
	inUse := func() string {
		t.Helper()
		m, err := agent.Refresh(ctx)
		require.NoError(t, err)
		require.Len(t, m, 1)
		return m["pkcs11:object=finpay-sign"]
	}
	first := public()

	// A pending generation changes nothing, but can be asked for by its number.
	generate(t, ops, keystore.KindRSA2048, "finpay-sign@g2~pending")
	require.Equal(t, "finpay-sign", inUse())
	require.Equal(t, first, public())
	explicit, err := agent.Signer("pkcs11:object=finpay-sign@g2")
	require.NoError(t, err)
	second, err := explicit.PublicKey(ctx)
	require.NoError(t, err)
	require.NotEqual(t, first, second)

	_, err = ops.Rename(ctx, "private", "finpay-sign@g2~pending", "finpay-sign@g2")
	require.NoError(t, err)
	m, err := agent.Refresh(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"pkcs11:object=finpay-sign": "finpay-sign@g2", "pkcs11:object=finpay-sign@g2": "finpay-sign@g2"}, m)
	require.Equal(t, second, public())
	require.NoError(t, agent.Health(ctx))
	// Both halves have the new name.
	all, err := ops.List(ctx)
	require.NoError(t, err)
	var labels []string
	for i := range all {
		labels = append(labels, all[i].Class+" "+all[i].Label)
	}
	slices.Sort(labels)
	require.Equal(t, []string{"private finpay-sign", "private finpay-sign@g2", "public finpay-sign", "public finpay-sign@g2"}, labels)

	// Put back, the one before signs again; and again forward.
	_, err = ops.Rename(ctx, "private", "finpay-sign@g2", "finpay-sign@g2~pending")
	require.NoError(t, err)
	_, err = agent.Refresh(ctx)
	require.NoError(t, err)
	require.Equal(t, first, public())
	_, err = ops.Rename(ctx, "private", "finpay-sign@g2~pending", "finpay-sign@g2")
	require.NoError(t, err)

	// The key in use is destroyed under a running agent: the call may fail, the next works.
	require.NoError(t, ops.Destroy(ctx, "pkcs11:object=finpay-sign;type=private"))
	_, _ = g.SignSHA256(ctx, []byte("m"))
	require.Equal(t, second, public())
	require.NoError(t, agent.Health(ctx))
}

func TestAnExchangedGenerationIsNoticed(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	agent, ops := tok.Open(t), tok.Open(t, func(o *keystore.Options) { o.LatchPath += "2" })
	generate(t, ops, keystore.KindHMAC, "secret")
	generate(t, ops, keystore.KindHMAC, "secret@g2")
	m, err := agent.MAC("pkcs11:object=secret")
	require.NoError(t, err)
	_, err = m.Sum(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, ops.Destroy(t.Context(), "pkcs11:object=secret@g2;type=secret-key"))
	generate(t, ops, keystore.KindHMAC, "secret@g2")
	require.ErrorIs(t, agent.Health(t.Context()), keystore.ErrKeyChanged)
	_, _ = m.Sum(t.Context(), nil)
	_, err = m.Sum(t.Context(), nil)
	require.ErrorIs(t, err, keystore.ErrKeyChanged)
}

func TestGenerationsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	generate(t, s, keystore.KindHMAC, "twin")
	generate(t, s, keystore.KindHMAC, "twin@g1")
	m, err := s.MAC("pkcs11:object=twin")
	require.NoError(t, err)
	_, err = m.Sum(ctx, nil)
	require.ErrorIs(t, err, keystore.ErrKeyAmbiguous)

	generate(t, s, keystore.KindHMAC, "new@g1~pending")
	m, err = s.MAC("pkcs11:object=new")
	require.NoError(t, err)
	_, err = m.Sum(ctx, nil)
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
	require.ErrorContains(t, err, "pending")

	// A name is not taken twice, and a missing key is not renamed.
	generate(t, s, keystore.KindHMAC, "other")
	_, err = s.Rename(ctx, "secret-key", "other", "twin@g1")
	require.ErrorIs(t, err, keystore.ErrKeyExists)
	_, err = s.Rename(ctx, "secret-key", "nobody", "somebody")
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
	_, err = s.Rename(ctx, "neither", "other", "somebody")
	require.ErrorIs(t, err, keystore.ErrConfiguration)
}

// TestWrappedByEveryGeneration: what an older generation wrapped is unwrapped as
// long as that one is there, whatever is active.
func TestWrappedByEveryGeneration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind keystore.Kind
		uri  string
	}{
		{keystore.KindAES256, "pkcs11:object=kek"},
		{keystore.KindRSA2048Unwrap, "pkcs11:object=kek;type=private"},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			s := softhsmtest.New(t).Open(t)
			ctx := t.Context()
			generate(t, s, c.kind, "kek")
			w, err := s.Wrapper(c.uri)
			require.NoError(t, err)
			plain, aad := []byte("thirty-two bytes of a data key .."), []byte("aad")
			wrap := func(by string) []byte {
				t.Helper()
				b, err := w.Wrap(ctx, plain, aad)
				require.NoError(t, err)
				require.Equal(t, by, w.WrappedBy(b))
				newest, err := w.Newest(ctx)
				require.NoError(t, err)
				require.Equal(t, by, newest)
				return b
			}
			one := wrap("pkcs11:object=kek")
			require.Less(t, one[0], byte(4), "the first generation wraps as it did before there were any")
			generate(t, s, c.kind, "kek@g2")
			_, err = s.Refresh(ctx)
			require.NoError(t, err)
			two := wrap("pkcs11:object=kek@g2")
			for _, b := range [][]byte{one, two} {
				back, err := w.Unwrap(ctx, b, aad)
				require.NoError(t, err)
				require.Equal(t, plain, back)
			}
			// The number is not taken on trust.
			other := slices.Clone(two)
			other[4] = 1
			_, err = w.Unwrap(ctx, other, aad)
			require.ErrorIs(t, err, keystore.ErrCiphertext)

			require.NoError(t, s.Destroy(ctx, "pkcs11:object=kek;type="+map[bool]string{true: "private", false: "secret-key"}[c.kind == keystore.KindRSA2048Unwrap]))
			_, err = s.Refresh(ctx)
			require.NoError(t, err)
			_, err = w.Unwrap(ctx, one, aad)
			require.Error(t, err)
			back, err := w.Unwrap(ctx, two, aad)
			require.NoError(t, err)
			require.Equal(t, plain, back)
			// Asked for by a Store that never saw it, it is no ciphertext of the key.
			fresh, err := s.Wrapper(c.uri)
			require.NoError(t, err)
			_, err = fresh.Unwrap(ctx, one, aad)
			require.ErrorIs(t, err, keystore.ErrCiphertext)
			require.ErrorContains(t, err, "generation 1")
		})
	}
}

// TestACertificateStaysWithItsGeneration: the certificate is for one key, so the
// next generation neither breaks the link nor is needed for it.
func TestACertificateStaysWithItsGeneration(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	generate(t, s, keystore.KindECP256, "tls-client")
	g, err := s.Signer("pkcs11:object=tls-client")
	require.NoError(t, err)
	ca := newAuthority(t)
	first := ca.issue(t, g.Public())
	signs := func(c *tls.Certificate) {
		t.Helper()
		signer, ok := c.PrivateKey.(crypto.Signer)
		require.True(t, ok)
		d := sha256.Sum256([]byte("m"))
		sig, err := signer.Sign(nil, d[:], crypto.SHA256)
		require.NoError(t, err)
		pub, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey)
		require.True(t, ok)
		require.True(t, ecdsa.VerifyASN1(pub, d[:], sig))
	}
	running, err := g.Certificate(ctx, first, time.Now())
	require.NoError(t, err)

	generate(t, s, keystore.KindECP256, "tls-client@g2~pending")
	_, err = s.Refresh(ctx)
	require.NoError(t, err)
	next, err := s.Signer("pkcs11:object=tls-client@g2")
	require.NoError(t, err)
	second := ca.issue(t, next.Public())
	early, err := g.Certificate(ctx, second, time.Now())
	require.NoError(t, err, "the certificate of a key that is still pending")
	signs(early)
	_, err = s.Rename(ctx, "private", "tls-client@g2~pending", "tls-client@g2")
	require.NoError(t, err)
	_, err = s.Refresh(ctx)
	require.NoError(t, err)
	signs(running)
	for _, chain := range [][]byte{first, second} {
		c, err := g.Certificate(ctx, chain, time.Now())
		require.NoError(t, err)
		signs(c)
	}
	generate(t, s, keystore.KindECP256, "other")
	other, err := s.Signer("pkcs11:object=other")
	require.NoError(t, err)
	_, err = g.Certificate(ctx, ca.issue(t, other.Public()), time.Now())
	require.ErrorIs(t, err, keystore.ErrCertificate)
}

// TestAnotherGenerationsCiphertext: the caller gets the text under every other key.
func TestAnotherGenerationsCiphertext(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	iv, plain := make([]byte, 16), []byte("thirty-two bytes of whole blocks")
	for _, l := range []string{"envelope", "envelope@g2", "envelope@g3~pending"} {
		generate(t, s, keystore.KindAES192, l)
	}
	c, err := s.Cipher("pkcs11:object=envelope", 192)
	require.NoError(t, err)
	for _, l := range []string{"envelope@g1", "envelope@g3"} {
		other, err := s.Cipher("pkcs11:object="+l, 192)
		require.NoError(t, err)
		sealed, err := other.EncryptCBC(ctx, iv, plain)
		require.NoError(t, err)
		back, err := c.DecryptCBC(ctx, iv, sealed)
		require.NoError(t, err)
		require.NotEqual(t, plain, back)
		all, err := c.DecryptOthersCBC(ctx, iv, sealed)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Contains(t, all, plain, l)
	}
}

// TestARenameThatWasCutOff: the public half has the new name already and the
// private one not yet. The key works, and doing it again finishes it.
func TestARenameThatWasCutOff(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	for _, kind := range []keystore.Kind{keystore.KindECP256, keystore.KindRSA2048} {
		name := string(kind)
		generate(t, s, kind, name+"@g2~pending")
		_, err := s.Rename(ctx, "public", name+"@g2~pending", name+"@g2")
		require.NoError(t, err)
		g, err := s.Signer("pkcs11:object=" + name + "@g2")
		require.NoError(t, err)
		_, err = g.SignSHA256(ctx, []byte("m"))
		require.NoError(t, err)
		info, err := s.Rename(ctx, "private", name+"@g2~pending", name+"@g2")
		require.NoError(t, err)
		require.Equal(t, name+"@g2", info.Label)
		g, err = s.Signer("pkcs11:object=" + name)
		require.NoError(t, err)
		_, err = g.SignSHA256(ctx, []byte("m"))
		require.NoError(t, err)
		require.NoError(t, s.Destroy(ctx, "pkcs11:object="+name+"@g2;type=private"))
	}
	all, err := s.List(ctx)
	require.NoError(t, err)
	require.Empty(t, all, "both halves were destroyed")
}
