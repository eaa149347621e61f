package snap

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The npm package that signs by the same standard, written by others. Pinned by
// version and content; its HTTP layer is never loaded, because that turns off
// certificate checks.
const (
	peerName    = "midtrans-client"
	peerVersion = "1.4.3"
	peerSHA512  = "2oNEYgD8+FeUIOE5rUnLmqacbh3GHWvq+xKmL3dS4ZgCAiD5uzQQrKOz7tJ+7OOi3TbHDD8POLI2D6/xzQMCxw=="
)

// peerScript loads the class with its HTTP layer replaced by nothing, and signs
// what comes on standard input.
const peerScript = `
const Module = require('module');
const load = Module._load;
Module._load = function (name, ...rest) {
  if (/apiRequestor/i.test(name)) return {};
  if (!/^(crypto$|fs$|\.|\/)/.test(name)) throw new Error('unexpected module ' + name);
  return load.call(this, name, ...rest);
};
const SnapBi = require(process.argv[2]);
const job = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const out = job.calls.map(c => ({
  hmac: SnapBi.getSymmetricSignatureHmacSh512(c.token, JSON.parse(c.body), c.method, c.path, c.secret, c.stamp),
  rsa: SnapBi.getAsymmetricSignatureSha256WithRsa(c.client, c.stamp, job.key),
  body: JSON.stringify(JSON.parse(c.body)),
}));
process.stdout.write(JSON.stringify(out));
`

type peerCall struct {
	Token  string `json:"token"`
	Body   string `json:"body"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Secret string `json:"secret"`
	Stamp  string `json:"stamp"`
	Client string `json:"client"`
}

// TestAgainstAnotherSigner compares our signatures, and that our bodies are what
// another JSON writer makes of them, with midtrans-client's over random bodies.
func TestAgainstAnotherSigner(t *testing.T) {
	dir := fetchPeer(t)
	script := filepath.Join(dir, "sign.js")
	require.NoError(t, os.WriteFile(script, []byte(peerScript), 0o600))

	const rounds = 2500
	calls := make([]peerCall, rounds)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range calls {
		calls[i] = peerCall{
			Token: word(rng, plainSet+"=+~", 1, 900), Body: string(randomBody(rng)), Method: "POST",
			Path:   "/" + word(rng, plainSet, 1, 40) + map[bool]string{true: "?a=" + word(rng, plainSet, 0, 9), false: ""}[rng.IntN(2) == 0],
			Secret: word(rng, plainSet+" !/&<>éß", 1, 90), Client: word(rng, plainSet, 1, 36),
			Stamp: time.Unix(rng.Int64N(4e9), 0).In(jakarta).Format(stampLayout),
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(testKey())
	require.NoError(t, err)
	in, err := json.Marshal(map[string]any{
		"key":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"calls": calls,
	})
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "node", script, filepath.Join(dir, "snapBi.js"))
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	var got []struct{ HMAC, RSA, Body string }
	require.NoError(t, json.Unmarshal(out, &got))
	require.Len(t, got, rounds)

	cfg := &Config{Mode: Symmetric, SignatureEncoding: Base64, SignQuery: true, EmptyBody: EmptyHash}
	inHex := &Config{Mode: Symmetric, SignatureEncoding: Hex, SignQuery: true, EmptyBody: EmptyHash}
	for i, c := range calls {
		require.Equal(t, c.Body, got[i].Body, "the peer writes our body differently")
		ours, err := signCall(t.Context(), cfg, &Keys{Secret: softMAC(c.Secret)},
			callString(cfg, c.Method, c.Path, []byte(c.Token), []byte(c.Body), c.Stamp))
		require.NoError(t, err)
		require.Equal(t, got[i].HMAC, ours)
		raw, err := base64.StdEncoding.DecodeString(got[i].HMAC)
		require.NoError(t, err)
		ours, err = signCall(t.Context(), inHex, &Keys{Secret: softMAC(c.Secret)},
			callString(inHex, c.Method, c.Path, []byte(c.Token), []byte(c.Body), c.Stamp))
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(raw), ours)
		ours, err = signToken(&Keys{Token: testKey()}, tokenString(c.Client, c.Stamp))
		require.NoError(t, err)
		require.Equal(t, got[i].RSA, ours)
	}
	t.Logf("%d bodies signed alike", rounds)
}

// TestOpenSSLVerifiesOurSignatures has the openssl program verify token and
// asymmetric transaction signatures over random requests, in both encodings. The
// strings that it verifies are put together here from the standard's words, and not
// by the code under test.
func TestOpenSSLVerifiesOurSignatures(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("skipped: openssl is not installed; make deps installs it")
	}
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(testKey().Public())
	require.NoError(t, err)
	public := filepath.Join(dir, "public.pem")
	require.NoError(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	verify := func(text string, sig []byte) (string, error) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), []byte(text), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sig"), sig, 0o600))
		cmd := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-verify", public, "-signature", "sig", "text")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 100 {
		body, stamp := randomBody(rng), time.Unix(rng.Int64N(4e9), 0).In(jakarta).Format(stampLayout)
		path := "/" + word(rng, plainSet, 1, 40) + "?a=" + word(rng, plainSet, 0, 9)
		cfg := &Config{Mode: Asymmetric, SignatureEncoding: []string{Base64, Hex}[i%2], SignQuery: true, EmptyBody: EmptyHash}
		sig, err := signCall(t.Context(), cfg, &Keys{Transaction: testKey()}, callString(cfg, "POST", path, nil, body, stamp))
		require.NoError(t, err)
		raw, err := base64.StdEncoding.DecodeString(sig)
		if cfg.SignatureEncoding == Hex {
			raw, err = hex.DecodeString(sig)
		}
		require.NoError(t, err)
		sum := sha256.Sum256(body)
		text := "POST:" + path + ":" + hex.EncodeToString(sum[:]) + ":" + stamp
		out, err := verify(text, raw)
		require.NoError(t, err, out)
		require.Contains(t, out, "Verified OK")

		client := word(rng, plainSet, 1, 36)
		sig, err = signToken(&Keys{Token: testKey()}, tokenString(client, stamp))
		require.NoError(t, err)
		raw, err = base64.StdEncoding.DecodeString(sig)
		require.NoError(t, err)
		out, err = verify(client+"|"+stamp, raw)
		require.NoError(t, err, out)
		if i == 0 {
			_, err = verify(text+"x", raw)
			require.Error(t, err, "openssl tells a wrong one")
		}
	}
}

const plainSet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."

func word(rng *rand.Rand, set string, least, most int) string {
	letters := []rune(set)
	b := make([]rune, least+rng.IntN(most-least+1))
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	return string(b)
}

// randomBody makes a body of one of our shapes, by our own builder.
func randomBody(rng *rand.Rand) []byte {
	w := func(most int) string { return word(rng, plainSet, 1, most) }
	switch rng.IntN(4) {
	case 0:
		return newBody(16).text("partnerReferenceNo", w(64)).text("phoneNo", w(16)).bytes()
	case 1:
		return newBody(16).text("merchantId", w(64)).text("refrenceNo", w(64)).text("phoneNo", w(16)).bytes()
	case 2:
		// A reference comes from the provider, so it may hold any visible character.
		ref := word(rng, plainSet+`"\/<>&'{}:,`, 1, 64)
		return newBody(16).text("merchantId", w(64)).text("referenceNo", ref).
			info().text("phoneNo", w(16)).digits("otp", []byte(word(rng, "0123456789", 1, 8))).close().bytes()
	}
	return newBody(16).text("custIdMerchant", w(64)).text("partnerReferenceNo", w(64)).info().text("type", "forgot_pin").close().bytes()
}

// fetchPeer has npm fetch the pinned package and lays out the two files of it that
// sign. It skips where that cannot be done.
func fetchPeer(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: %s is not installed", tool)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // npm alone takes long to start where much runs
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "pack", "--ignore-scripts", "--silent", "--fetch-retries=0", "--fetch-timeout=15000", peerName+"@"+peerVersion)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("skipped: npm could not fetch %s %s: %v %s", peerName, peerVersion, err, out)
	}
	pack, err := os.ReadFile(filepath.Join(dir, peerName+"-"+peerVersion+".tgz"))
	require.NoError(t, err)
	sum := sha512.Sum512(pack)
	require.Equal(t, peerSHA512, base64.StdEncoding.EncodeToString(sum[:]), "the package is not the pinned one")
	z, err := gzip.NewReader(bytes.NewReader(pack))
	require.NoError(t, err)
	found := 0
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch name := strings.TrimPrefix(h.Name, "package/lib/snapBi/"); name {
		case "snapBi.js", "snapBiConfig.js":
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			found++
		}
	}
	require.Equal(t, 2, found, "the package has another layout")
	return dir
}
