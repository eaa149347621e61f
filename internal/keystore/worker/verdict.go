package worker

import (
	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// verify reads a key's attributes anew, tries to read its value, and has it do
// its work once. What it finds wrong with the key is an answer and no failure.
func (t *token) verify(out []byte, m *protocol.Use) ([]byte, error) {
	var want protocol.Key
	if err := want.Parse(m.Key); err != nil {
		return nil, err
	}
	t.keys.forget(m.Key)
	var v protocol.Verdict
	err := t.ceremony(func(sh pkcs11.SessionHandle) error {
		h, err := t.findOne(sh, &want)
		if err != nil {
			return err
		}
		o, err := t.inspect(sh, h)
		if err != nil {
			return err
		}
		if err := suits(&want, o); err != nil {
			return err
		}
		v.Object = *o
		v.Readable = t.readable(sh, h, o.Type)
		v.Trial, err = t.rehearse(protocol.OpVerify, asMade(o), h, o)
		if err != nil {
			v.Failed = err.Error()
		}
		if because(err) == protocol.ReasonSession {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v.Append(out), nil
}

// asMade is what a key was made for, by what the token says it may do.
func asMade(o *protocol.Object) *protocol.Create {
	m := &protocol.Create{Label: o.Label, ID: o.ID, Type: o.Type, Bits: o.Bits}
	for place, usage := range map[int]protocol.Usage{
		protocol.FactSign: protocol.UsageSign, protocol.FactEncrypt: protocol.UsageEncrypt,
		protocol.FactDecrypt: protocol.UsageDecrypt, protocol.FactUnwrap: protocol.UsageUnwrap,
	} {
		if o.Facts[place] == protocol.FactYes {
			m.Usage |= usage
		}
	}
	return m
}
