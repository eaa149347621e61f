package keystore

import (
	"context"
	"fmt"

	"gardu/internal/keystore/protocol"
)

// Finding is one thing that was looked at in a key.
type Finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Report is what Verify found in one key.
type Report struct {
	Key      KeyInfo   `json:"key"`
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

func (r *Report) add(what string, ok bool, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{what, ok, fmt.Sprintf(format, args...)})
	r.OK = r.OK && ok
}

// Verify reads a key's attributes from the token anew, one by one, tries to read
// its value, has it do its work once, and judges: is it sensitive and not
// extractable, has it one purpose, is it long enough. It changes nothing. Class is as
// type= in a URI. What is wrong with the key is in the Report; an error means that
// the token could not be asked.
func (s *Store) Verify(ctx context.Context, class, label string) (Report, error) {
	k, err := s.object(class, label)
	if err != nil {
		return Report{}, err
	}
	use := protocol.Use{Key: k.wire(label, nil)}
	var v protocol.Verdict
	_, err = s.do(ctx, &request{
		op: protocol.OpVerify, verb: "verify", object: k.name, deadline: s.opts.CeremonyDeadline, body: use.Append, check: v.Parse,
	})
	if err != nil {
		return Report{}, err
	}
	return s.judge(&v), nil
}

func (s *Store) judge(v *protocol.Verdict) Report {
	r := Report{Key: keyInfo(&v.Object), OK: true}
	at := r.Key.Attributes
	for _, f := range []struct{ name, want, bad string }{
		{"CKA_TOKEN", "yes", "it is gone when the session ends"},
		{"CKA_PRIVATE", "yes", "it can be found without the PIN"},
		{"CKA_SENSITIVE", "yes", "its value may be read in clear"},
		{"CKA_EXTRACTABLE", "no", "its value may leave the token"},
	} {
		if at[f.name] == f.want {
			r.add(f.name, true, "%s", at[f.name])
		} else {
			r.add(f.name, false, "%s: %s", at[f.name], f.bad)
		}
	}
	// What a token cannot say of an imported key is no fault, but it is said.
	origin := "made in the token, and never was outside it"
	switch kept := at["CKA_NEVER_EXTRACTABLE"] == "yes" && at["CKA_ALWAYS_SENSITIVE"] == "yes"; {
	case kept && at["CKA_LOCAL"] == "yes":
	case kept: // some tokens say so of each key, some never say where one was made
		origin = "the token does not say for certain whether it was made in it; the audit record does"
	default:
		origin = "imported: its value was outside this token"
	}
	r.add("origin", true, "%s (CKA_LOCAL %s, CKA_NEVER_EXTRACTABLE %s, CKA_ALWAYS_SENSITIVE %s)",
		origin, at["CKA_LOCAL"], at["CKA_NEVER_EXTRACTABLE"], at["CKA_ALWAYS_SENSITIVE"])
	if v.Readable {
		r.add("value", false, "the token shows it in clear: take the key out of use")
	} else {
		r.add("value", true, "cannot be read")
	}
	purpose, one := purposeOf(at)
	if one {
		r.add("purpose", true, "%s", purpose)
	} else {
		r.add("purpose", false, "%s; a key has one purpose", purpose)
	}
	s.judgeSize(&r)
	if v.Failed != "" {
		r.add("test", false, "%s: %s", v.Trial, v.Failed)
	} else {
		r.add("test", true, "%s", v.Trial)
	}
	return r
}

func purposeOf(at map[string]string) (text string, one bool) {
	var n int
	for _, p := range []struct {
		text string
		of   []string
	}{
		{"signs", []string{"CKA_SIGN"}},
		{"encrypts and decrypts", []string{"CKA_ENCRYPT", "CKA_DECRYPT"}},
		{"wraps and unwraps", []string{"CKA_WRAP", "CKA_UNWRAP"}},
		{"derives", []string{"CKA_DERIVE"}},
	} {
		for _, a := range p.of {
			if at[a] == "yes" {
				if n++; n > 1 {
					text += ", "
				}
				text += p.text
				break
			}
		}
	}
	if n == 0 {
		return "it may do nothing", false
	}
	return text, n == 1
}

func (s *Store) judgeSize(r *Report) {
	k := &r.Key
	switch {
	case k.Type == "rsa" && k.Bits < s.opts.MinRSABits:
		r.add("size", false, "RSA with %d bits, at least %d are needed", k.Bits, s.opts.MinRSABits)
	case k.Type == "aes" && k.Bits != 0 && k.Bits < 128, k.Type == "generic" && k.Bits != 0 && k.Bits < 8*shortSecret:
		r.add("size", false, "%d bits are too few", k.Bits)
	case k.Bits == 0:
		r.add("size", true, "the token does not say")
	default:
		r.add("size", true, "%d bits", k.Bits)
	}
	switch {
	case k.KCV != "":
		r.add("check value", true, "%s", k.KCV)
	case len(k.Public) > 0:
		r.add("fingerprint", true, "%s", k.Fingerprint())
	default:
		r.add("check value", true, "the token computes none of this key")
	}
}
