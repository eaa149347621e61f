package upstream

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/maphash"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"
)

// snapTime is the layout of X-TIMESTAMP (SNAP standard, Keamanan 1.0.2): an offset of +07:00, no fraction.
const snapTime = "2006-01-02T15:04:05-07:00"

// wib is Western Indonesia Time, in which the standard's "day" of an external id is counted.
var wib = time.FixedZone("WIB", 7*60*60)

// partner is a client with its key read.
type partner struct {
	Partner
	key *rsa.PublicKey
}

// snapPlatform is what Finpay and Netzme have in common: the SNAP standard's security.
type snapPlatform struct {
	*platform
	cfg      SNAPConfig
	clients  map[string]*partner // by client id
	partners map[string]*partner // by partner id
	// unauthorised is how the platform spells it; both spellings occur.
	unauthorised string
	needsOrigin  bool
	origin       string
	// externalID is the platform's own rule, and externalIDRule says it in words.
	externalID     func(string) bool
	externalIDRule string
	customerOps    map[string]bool
	seed           maphash.Seed

	mu     sync.Mutex // guards what follows, and the state of the platform built on this
	tokens *tokenStore
	used   *bounded[string, uint64] // day, client and external id → what it was used for
}

func (s *Server) newSNAP(name string, cfg SNAPConfig) (*snapPlatform, error) {
	sp := &snapPlatform{
		platform: s.newPlatform(name),
		cfg:      cfg,
		clients:  map[string]*partner{},
		partners: map[string]*partner{},
		seed:     maphash.MakeSeed(),
		tokens:   newTokenStore(s.cfg.LedgerCap),
		used:     newBounded[string, uint64](s.cfg.LedgerCap),
	}
	sp.snap = true
	sp.render = sp.renderCode
	for i := range cfg.Partners {
		data, err := cfg.Partners[i].publicKeyPEM()
		if err != nil {
			return nil, fmt.Errorf("%s: partners[%d].%w", name, i, err)
		}
		key, err := parseRSAKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: partners[%d].public_key: %w", name, i, err)
		}
		p := &partner{cfg.Partners[i], key}
		sp.clients[p.ClientID], sp.partners[p.PartnerID] = p, p
	}
	return sp, nil
}

// parseRSAKey reads the first RSA public key of a PEM text.
func parseRSAKey(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	var parsed any
	var err error
	switch block.Type {
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			parsed = cert.PublicKey
		}
	case "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, not an RSA public key", parsed)
	}
	return key, nil
}

// decodeSignature is strict: padded standard Base64 or lower-case hexadecimal, nothing else.
func decodeSignature(text, encoding string) ([]byte, bool) {
	if encoding == EncodingHex {
		raw, err := hex.DecodeString(text)
		return raw, err == nil && text == strings.ToLower(text)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	return raw, err == nil && !strings.ContainsAny(text, "\r\n")
}

// verifyAsymmetric checks SHA256withRSA (RSASSA-PKCS1-v1_5).
func verifyAsymmetric(key *rsa.PublicKey, stringToSign, signature, encoding string) bool {
	raw, ok := decodeSignature(signature, encoding)
	if !ok {
		return false
	}
	sum := sha256.Sum256([]byte(stringToSign))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) == nil
}

// verifySymmetric checks HMAC-SHA512 keyed with the secret's UTF-8 text.
func verifySymmetric(secret, stringToSign, signature, encoding string) bool {
	raw, ok := decodeSignature(signature, encoding)
	if !ok {
		return false
	}
	mac := hmac.New(sha512.New, []byte(secret))
	mac.Write([]byte(stringToSign))
	return hmac.Equal(mac.Sum(nil), raw)
}

// bodyHash is lowerhex(sha256(minify(body))).
func bodyHash(body []byte, emptyBody string) string {
	compact := minify(body)
	switch {
	case len(compact) > 0:
	case emptyBody == EmptyBodyObject:
		compact = []byte("{}")
	case emptyBody == EmptyBodyBlank:
		return ""
	}
	sum := sha256.Sum256(compact)
	return hex.EncodeToString(sum[:])
}

// signedText is the string to sign of a transaction (SNAP standard, Keamanan 1.0.2); asymmetric leaves the access token out.
func signedText(p *Partner, method, path, token, hash, timestamp string) string {
	if p.Mode == ModeAsymmetric {
		return method + ":" + path + ":" + hash + ":" + timestamp
	}
	return method + ":" + path + ":" + token + ":" + hash + ":" + timestamp
}

// snapBody is an answer that carries only a code.
type snapBody struct {
	ResponseCode    string `json:"responseCode"`
	ResponseMessage string `json:"responseMessage"`
}

// renderCode makes a code of a status and a case; seven digits are taken as they are.
func (sp *snapPlatform) renderCode(x *exchange, status int, code, message string) reply {
	service := "00"
	if x.op != nil {
		service = x.op.service
	}
	if code == "" {
		code = "00"
	}
	if len(code) <= 2 {
		code = fmt.Sprintf("%03d%s%02s", status, service, code)
	}
	return reply{status: status, code: code, body: mustJSON(snapBody{code, message})}
}

// refuse answers with a case of the standard's list.
func (sp *snapPlatform) refuse(x *exchange, status int, caseCode, message string) *reply {
	a := sp.renderCode(x, status, caseCode, message)
	return &a
}

// unauthorisedBecause is 401 xx00 with the reason in brackets, as in the documents.
func (sp *snapPlatform) unauthorisedBecause(x *exchange, reason string) *reply {
	return sp.refuse(x, http.StatusUnauthorized, "00", sp.unauthorised+". ["+reason+"]")
}

// badField is 400 xx01 or xx02 with the field's name.
func (sp *snapPlatform) badField(x *exchange, e *fieldError) *reply {
	x.violate("%s: %s", clip(e.field), e.why)
	if e.missing {
		return sp.refuse(x, http.StatusBadRequest, "02", "Invalid mandatory field "+clip(e.field))
	}
	return sp.refuse(x, http.StatusBadRequest, "01", "Invalid field format "+clip(e.field))
}

// header reads a header that must occur once.
func header(r *http.Request, name string, low, high int, ok func(string) bool) (string, *fieldError) {
	values := r.Header.Values(name)
	switch {
	case len(values) == 0 || values[0] == "":
		return "", &fieldError{name, true, "the header is missing"}
	case len(values) > 1:
		return "", &fieldError{name, false, "the header occurs more than once"}
	}
	return object{values: map[string]any{name: values[0]}}.text(name, low, high, ok)
}

func contentType(r *http.Request) *fieldError {
	value, bad := header(r, "Content-Type", 1, 128, nil)
	if bad != nil {
		return bad
	}
	if media, _, err := mime.ParseMediaType(value); err != nil || media != "application/json" {
		return &fieldError{"Content-Type", false, "it must be application/json"}
	}
	return nil
}

// timestamp reads X-TIMESTAMP and compares it with the platform's clock.
func (sp *snapPlatform) timestamp(x *exchange) (string, *reply) {
	text, bad := header(x.r, "X-TIMESTAMP", 25, 25, func(s string) bool {
		t, err := time.Parse(snapTime, s)
		return err == nil && strings.HasSuffix(s, "+07:00") && t.Format(snapTime) == s
	})
	if bad != nil {
		return "", sp.badField(x, bad)
	}
	t, err := time.Parse(snapTime, text)
	if err != nil {
		return "", sp.badField(x, &fieldError{"X-TIMESTAMP", false, "it is not yyyy-MM-ddTHH:mm:ss+07:00"})
	}
	off := t.Sub(sp.clock())
	if window := time.Duration(sp.s.cfg.WindowMinutes) * time.Minute; off > window || off < -window {
		if _, skewed := sp.faults.find(KindClockSkew); !skewed {
			x.violate("X-TIMESTAMP is %s off, more than %s", off.Round(time.Second), window)
		}
		return "", sp.unauthorisedBecause(x, "X-TIMESTAMP")
	}
	return text, nil
}

// transaction checks everything about a request that the SNAP standard rules and hands its body to fields.
func (sp *snapPlatform) transaction(x *exchange, fields func(object) (carryOut, *reply)) (carryOut, *reply) {
	if bad := contentType(x.r); bad != nil {
		return nil, sp.badField(x, bad)
	}
	timestamp, refusal := sp.timestamp(x)
	if refusal != nil {
		return nil, refusal
	}
	client, refusal := sp.transactionHeaders(x)
	if refusal != nil {
		return nil, refusal
	}
	token, refusal := sp.accessToken(x, client)
	if refusal != nil {
		return nil, refusal
	}
	body, err := parseObject(x.body)
	if err != nil {
		x.violate("the body cannot be read: %s", clip(err.Error()))
		return nil, sp.refuse(x, http.StatusBadRequest, "00", "Bad Request")
	}
	hash, refusal := sp.signature(x, client, token, timestamp)
	if refusal != nil {
		return nil, refusal
	}
	owner, refusal := sp.customerToken(x, client)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := sp.useExternalID(x, client, hash); refusal != nil {
		return nil, refusal
	}
	carry, refusal := fields(body)
	if refusal == nil && owner != "" {
		refusal = sp.ownToken(x, owner)
	}
	return carry, refusal
}

// transactionHeaders checks the headers that are neither signature nor token and returns who is asking.
func (sp *snapPlatform) transactionHeaders(x *exchange) (*partner, *reply) {
	id, bad := header(x.r, "X-PARTNER-ID", 1, 36, nil)
	if bad != nil {
		return nil, sp.badField(x, bad)
	}
	x.note(func(e *Exchange) { e.Client = id })
	ext, bad := header(x.r, "X-EXTERNAL-ID", 1, 36, sp.externalID)
	if bad != nil {
		if !bad.missing {
			bad.why = "it must have " + sp.externalIDRule
		}
		return nil, sp.badField(x, bad)
	}
	x.externalID = ext
	x.note(func(e *Exchange) { e.ExternalID = ext })
	if _, bad := header(x.r, "CHANNEL-ID", 1, 5, func(s string) bool {
		return sp.cfg.ChannelID == "" && alphanumeric(s) || s == sp.cfg.ChannelID && s != ""
	}); bad != nil {
		return nil, sp.badField(x, bad)
	}
	if sp.needsOrigin {
		if _, bad := header(x.r, "ORIGIN", 1, 256, func(s string) bool { return sp.origin == "" || s == sp.origin }); bad != nil {
			return nil, sp.badField(x, bad)
		}
	}
	client := sp.partners[id]
	if client == nil {
		x.violate("X-PARTNER-ID %s is not known", clip(id))
		return nil, sp.unauthorisedBecause(x, "Unknown Client")
	}
	return client, nil
}

// accessToken checks Authorization. In asymmetric mode the standard has no such header, so it is checked only if it is there.
func (sp *snapPlatform) accessToken(x *exchange, client *partner) (string, *reply) {
	if client.Mode == ModeAsymmetric && x.r.Header.Get("Authorization") == "" {
		return "", nil
	}
	value, bad := header(x.r, "Authorization", 1, 8192, func(s string) bool { return strings.HasPrefix(s, "Bearer ") && len(s) > 7 })
	if bad != nil {
		return "", sp.badField(x, bad)
	}
	token := strings.TrimPrefix(value, "Bearer ")
	known, ok := sp.issued(token)
	switch {
	case !ok || known.phone != "":
		x.violate("the access token was never issued")
		return "", sp.refuse(x, http.StatusUnauthorized, "03", "Token Not Found (B2B)")
	case known.client != client.ClientID:
		x.violate("the access token was issued to another client")
		return "", sp.refuse(x, http.StatusUnauthorized, "01", "Invalid token (B2B)")
	case known.revoked || !sp.s.now().Before(known.expires):
		return "", sp.refuse(x, http.StatusUnauthorized, "01", "Invalid token (B2B)")
	}
	return token, nil
}

// signature checks X-SIGNATURE and returns the body hash.
func (sp *snapPlatform) signature(x *exchange, client *partner, token, timestamp string) (string, *reply) {
	given, bad := header(x.r, "X-SIGNATURE", 1, 4096, nil)
	if bad != nil {
		return "", sp.badField(x, bad)
	}
	path := x.r.URL.EscapedPath()
	if orTrue(client.SignQuery) {
		path = x.r.URL.RequestURI()
	}
	hash := bodyHash(x.body, client.EmptyBody)
	text := signedText(&client.Partner, x.r.Method, path, token, hash, timestamp)
	ok := false
	if client.Mode == ModeAsymmetric {
		ok = verifyAsymmetric(client.key, text, given, client.SignatureEncoding)
	} else {
		ok = verifySymmetric(client.ClientSecret, text, given, client.SignatureEncoding)
	}
	if !ok {
		shown := signedText(&client.Partner, x.r.Method, path, "<token>", hash, timestamp)
		x.violate("X-SIGNATURE (%s, %s) is not the one of %s", client.Mode, client.SignatureEncoding, clip(shown))
		return "", sp.unauthorisedBecause(x, "Signature")
	}
	return hash, nil
}

// useExternalID marks the external id as used on this WIB day. The same id with the same content is a repeat, which a client may try
// when it is in doubt; with another content it breaks the standard.
func (sp *snapPlatform) useExternalID(x *exchange, client *partner, hash string) *reply {
	day := sp.clock().In(wib).Format("20060102")
	key := day + "|" + client.ClientID + "|" + x.externalID
	use := maphash.String(sp.seed, x.r.URL.Path+"|"+hash)
	sp.mu.Lock()
	before, used := sp.used.get(key)
	if !used && !x.dry {
		sp.used.put(key, use)
	}
	sp.mu.Unlock()
	if !used {
		return nil
	}
	if before != use {
		x.violate("X-EXTERNAL-ID %s was used today for another request", x.externalID)
	}
	if !orTrue(sp.cfg.UniqueExternalID) {
		return nil
	}
	return sp.refuse(x, http.StatusConflict, "00", "Conflict")
}

func alphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}
