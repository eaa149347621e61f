package snap

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MAC makes HMAC-SHA512 with the client secret, which stays where it is.
type MAC interface {
	// Sum returns the 64 bytes of the code over data.
	Sum(ctx context.Context, data []byte) ([]byte, error)
}

// Keys are what a provider's calls are signed with. The keys themselves are never
// seen here.
type Keys struct {
	Token       crypto.Signer // RSA; access token requests (services 73 and 74)
	Transaction crypto.Signer // RSA; calls in asymmetric mode; nil takes Token
	Secret      MAC           // calls in symmetric mode
	Vault       Vault         // keeps customer tokens; only where an operation's customer_token is on
}

// tokenString is what an access token request signs (SNAP standard, service 73).
func tokenString(clientID, stamp string) []byte { return []byte(clientID + "|" + stamp) }

// callString is what a call signs (SNAP standard, Keamanan 1.0.2). body must be
// the very bytes that are sent: they are already minified, and a second minifier
// could disagree about them.
func callString(c *Config, method, target string, token, body []byte, stamp string) []byte {
	path := target
	if !c.SignQuery {
		path, _, _ = strings.Cut(target, "?")
	}
	hashed := body
	if len(body) == 0 && c.EmptyBody == EmptyObject {
		hashed = []byte("{}")
	}
	digest := ""
	if len(hashed) > 0 || c.EmptyBody == EmptyHash {
		sum := sha256.Sum256(hashed)
		digest = hex.EncodeToString(sum[:])
	}
	s := make([]byte, 0, len(method)+len(path)+len(token)+len(digest)+len(stamp)+4)
	s = append(s, method...)
	s = append(s, ':')
	s = append(s, path...)
	if c.Mode == Symmetric {
		s = append(s, ':')
		s = append(s, token...)
	}
	s = append(s, ':')
	s = append(s, digest...)
	s = append(s, ':')
	return append(s, stamp...)
}

// signCall signs a call in the configured mode and encoding.
func signCall(ctx context.Context, c *Config, k *Keys, text []byte) (string, error) {
	var sig []byte
	var err error
	if c.Mode == Asymmetric {
		sig, err = signRSA(k.Transaction, text)
	} else {
		sig, err = k.Secret.Sum(ctx, text)
		if err == nil && len(sig) != sha512.Size {
			err = fmt.Errorf("the client secret's key made %d bytes instead of %d", len(sig), sha512.Size)
		}
	}
	if err != nil {
		return "", fmt.Errorf("sign call: %w", err)
	}
	if c.SignatureEncoding == Hex {
		return hex.EncodeToString(sig), nil
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

// signToken signs an access token request. Its encoding is always Base64: every
// provider seen wants that, also those that want hex for calls.
func signToken(k *Keys, text []byte) (string, error) {
	sig, err := signRSA(k.Token, text)
	if err != nil {
		return "", fmt.Errorf("sign token request: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

// signRSA makes SHA256withRSA: RSASSA-PKCS1-v1_5 over SHA-256.
func signRSA(s crypto.Signer, text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	return s.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// checkKeys says what a provider's keys lack for its configuration.
func checkKeys(c *Config, k *Keys, askWho string) error {
	if err := checkRSA(k.Token, "the token key", c.MinRSABits, askWho); err != nil {
		return err
	}
	switch {
	case c.Mode == Asymmetric && k.Transaction == nil:
		k.Transaction = k.Token
	case c.Mode == Asymmetric:
		return checkRSA(k.Transaction, "the transaction key", c.MinRSABits, askWho)
	case k.Secret == nil:
		return errors.New("there is no client secret; mode \"symmetric\" needs one in the token")
	}
	return nil
}

func checkRSA(s crypto.Signer, name string, minBits int, askWho string) error {
	if s == nil {
		return fmt.Errorf("%s is missing; access tokens need an RSA key in the token", name)
	}
	pub, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%s is not an RSA key; SNAP signs with RSA only", name)
	}
	if bits := pub.N.BitLen(); bits < minBits {
		return fmt.Errorf("%s has %d bits, at least %d are needed; ask %s for a key pair of 2048 bits or more, or to accept a public key of yours", name, bits, minBits, askWho)
	}
	return nil
}
