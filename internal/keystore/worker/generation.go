package worker

import (
	"strings"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// mostObjects is more than a token of ours ever holds.
const mostObjects = 1000

// names lists the labels of one class that are the name asked for or begin with
// it and the mark of a generation. PKCS#11 searches for whole labels only, so
// every object of the class is looked at.
func (t *token) names(out []byte, m *protocol.Use) ([]byte, error) {
	var want protocol.Key
	if err := want.Parse(m.Key); err != nil {
		return nil, err
	}
	if _, ok := classes[want.Class]; !ok || want.Label == "" {
		return nil, fail(protocol.ReasonConfiguration, "generations have a class and a name")
	}
	var all protocol.Objects
	look := func() error {
		all = nil
		return t.pool.with(func(sh pkcs11.SessionHandle) error {
			found, err := t.find(sh, template(&protocol.Key{Class: want.Class}), mostObjects)
			if err != nil {
				return err
			}
			for _, h := range found {
				label, err := t.attribute(sh, h, pkcs11.CKA_LABEL)
				if err != nil {
					return err
				}
				if l := string(label); l == want.Label || strings.HasPrefix(l, want.Label+protocol.GenerationMark) {
					all = append(all, protocol.Object{Label: l, Class: want.Class})
				}
			}
			if len(all) > 0 {
				return nil
			}
			if !t.witnessed(sh) {
				return fail(protocol.ReasonDevice, "objects that were there before are gone")
			}
			return fail(protocol.ReasonKeyNotFound, "the token holds no such object")
		})
	}
	err := look()
	if mayPass(err) {
		t.pool.drop()
		err = look()
	}
	if err != nil {
		return nil, err
	}
	return all.Append(out), nil
}

// rename gives a key another label. The public half goes first: the private
// key's label is what decides, and a rename that was cut off between the two is
// finished by doing it again.
func (t *token) rename(out []byte, m *protocol.Rename) ([]byte, error) {
	var want protocol.Key
	if err := want.Parse(m.Key); err != nil {
		return nil, err
	}
	if m.Label == "" {
		return nil, fail(protocol.ReasonConfiguration, "a key needs a name")
	}
	t.keys.forget(m.Key)
	var o *protocol.Object
	err := t.ceremony(func(sh pkcs11.SessionHandle) error {
		h, err := t.findOne(sh, &want)
		if err != nil {
			return err
		}
		if o, err = t.inspect(sh, h); err != nil {
			return err
		}
		if err := suits(&want, o); err != nil {
			return err
		}
		taken, err := t.find(sh, template(&protocol.Key{Label: m.Label, Class: want.Class}), 1)
		if err != nil {
			return err
		}
		if len(taken) > 0 {
			return fail(protocol.ReasonKeyExists, "the token already holds an object of this name")
		}
		var doomed []pkcs11.ObjectHandle
		if want.Class == protocol.ClassPrivate && len(o.ID) > 0 {
			if doomed, err = t.find(sh, template(&protocol.Key{Label: o.Label, ID: o.ID, Class: protocol.ClassPublic}), 2); err != nil {
				return err
			}
		}
		for _, h := range append(doomed, h) {
			if err := t.setLabel(sh, h, m.Label); err != nil {
				return err
			}
		}
		o.Label = m.Label
		return nil
	})
	if err != nil {
		return nil, err
	}
	return o.Append(out), nil
}

func (t *token) setLabel(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, label string) error {
	if err := t.ctx.SetAttributeValue(sh, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
		err = failed("C_SetAttributeValue", err)
		if r := because(err); r != protocol.ReasonSession && r != protocol.ReasonDevice {
			return fail(protocol.ReasonUnsupported, "the token does not rename keys: %v", err)
		}
		return err
	}
	now, err := t.attribute(sh, h, pkcs11.CKA_LABEL)
	if err == nil && string(now) != label {
		err = fail(protocol.ReasonDevice, "the token answered OK to a new name and kept the old one")
	}
	return err
}
