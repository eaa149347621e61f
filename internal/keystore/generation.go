package keystore

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gardu/internal/keystore/protocol"
)

// Generations. A key that is configured by its name alone (object=finpay-sign)
// may exist several times, as generations of one name:
//
//	finpay-sign               generation 1; a key from before there were any is one
//	finpay-sign@g2            generation 2, and so on
//	finpay-sign@g3~pending    made, and not yet in use
//
// The newest that is not pending is active: it signs, authenticates, encrypts and
// wraps. Those below it are retiring: they unwrap what they wrapped, until they are
// destroyed. So one bit is kept per key, and it is kept in the token, in the key's
// label: it needs no file that can be lost, put back or written by somebody without
// the PIN, it goes with the token into another machine, every tool shows it, and it
// survives a power cut as the key itself does. What a label cannot say, who did
// it and when, is in the audit record.
//
// A URI that names a generation (object=finpay-sign@g2) or an id means that one
// object and no other, pending or not.

// pendingMark ends the label of a generation that is not in use yet.
const pendingMark = "~pending"

// maxDigits bounds the number of a generation.
const maxDigits = 6

// GenState is where a generation is in its life. Destroyed ones are not there.
type GenState string

// The states.
const (
	StatePending  GenState = "pending"
	StateActive   GenState = "active"
	StateRetiring GenState = "retiring"
)

// Name is a label taken apart.
type Name struct {
	Base    string
	Number  int  // 1 when the label says none
	Given   bool // the label says a number
	Pending bool
}

// ParseName takes a label apart.
func ParseName(label string) Name {
	n := Name{Base: label, Number: 1}
	rest, pending := strings.CutSuffix(label, pendingMark)
	base, digits, ok := cutLast(rest, protocol.GenerationMark)
	if !ok || base == "" || len(digits) == 0 || len(digits) > maxDigits || digits[0] == '0' {
		return n
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return n
		}
	}
	number, err := strconv.Atoi(digits)
	if err != nil {
		return n
	}
	return Name{Base: base, Number: number, Given: true, Pending: pending}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Label is the label that a new generation gets; the first one gets the bare name.
func (n Name) Label() string {
	l := n.Base
	if n.Number > 1 || n.Given || n.Pending {
		l += protocol.GenerationMark + strconv.Itoa(n.Number)
	}
	if n.Pending {
		l += pendingMark
	}
	return l
}

// String names the generation, whether it is pending or not: finpay-sign@g2, and
// finpay-sign for the first.
func (n Name) String() string {
	n.Pending = false
	n.Given = false
	return n.Label()
}

// member is one object of a name.
type member struct {
	Name
	label string
	twice bool // two objects claim to be this generation
}

// generations is what is known of a key's family.
type generations struct {
	asked   time.Time
	members []member // oldest first
	known   map[string]*resolved
}

// generationsEvery is how often Health looks for generations that another
// program made.
const generationsEvery = 20 * time.Second

// plain is true for a key whose name means one object and no family.
func (k *key) plain() bool { return k.uri.Object == "" || len(k.uri.ID) > 0 }

func (k *key) stale() bool {
	if k.plain() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.gens.asked) >= generationsEvery
}

// refresh looks which generations there are and uses the newest that is active.
// A generation that was seen before must still be the same key.
func (k *key) refresh(ctx context.Context) (*resolved, error) {
	if k.plain() {
		return k.adopt(ctx, nil, member{label: k.uri.Object})
	}
	all, err := k.family(ctx)
	if err != nil {
		return nil, err
	}
	m, err := k.choose(all)
	if err != nil {
		return nil, explain("find", k.name, err)
	}
	return k.adopt(ctx, all, m)
}

func (k *key) adopt(ctx context.Context, all []member, m member) (*resolved, error) {
	r, err := k.member(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := k.judge(r); err != nil {
		return nil, explain("use", k.name, err)
	}
	k.mu.Lock()
	before := k.found
	k.found = r
	k.gens.members, k.gens.asked = all, time.Now()
	if !k.plain() { // the number of one that was destroyed may be given again
		maps.DeleteFunc(k.gens.known, func(id string, _ *resolved) bool {
			return !slices.ContainsFunc(all, func(m member) bool { return strconv.Itoa(m.Number) == id })
		})
	}
	k.mu.Unlock()
	if before != nil && before.gen != r.gen {
		k.s.opts.Log.Info("another generation of a key is in use", "key", k.name, "generation", r.gen, "before", before.gen)
	}
	return r, nil
}

// member describes one generation, once; afterwards it must stay the same key.
func (k *key) member(ctx context.Context, m member) (*resolved, error) {
	id := strconv.Itoa(m.Number)
	k.mu.Lock()
	seen := k.gens.known[id]
	k.mu.Unlock()
	if seen != nil && seen.info.Label == m.label {
		return seen, nil
	}
	var pin []byte
	if seen != nil {
		pin = seen.identity
	}
	r, err := k.look(ctx, m.label, pin)
	if err != nil {
		return nil, err
	}
	r.gen = m.Number
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gens.known == nil {
		k.gens.known = map[string]*resolved{}
	}
	k.gens.known[id] = r
	return r, nil
}

// family asks the token for all generations of the key's name, oldest first.
func (k *key) family(ctx context.Context) ([]member, error) {
	base := ParseName(k.uri.Object).Base
	named := protocol.Key{Label: base, Class: k.class}
	use := protocol.Use{Key: named.Append(nil)}
	var list protocol.Objects
	_, err := k.s.do(ctx, &request{
		op: protocol.OpNames, verb: "find", object: k.name, deadline: k.s.opts.Deadline, body: use.Append, check: list.Parse,
	})
	if err != nil {
		return nil, k.unfit(err)
	}
	labels := make([]string, len(list))
	for i := range list {
		labels[i] = list[i].Label
	}
	return members(base, labels), nil
}

func members(base string, labels []string) []member {
	var all []member
	for _, l := range labels {
		n := ParseName(l)
		if n.Base != base {
			continue // a longer name with a mark of its own
		}
		all = append(all, member{Name: n, label: l})
	}
	slices.SortFunc(all, func(a, b member) int { return a.Number - b.Number })
	for i := 1; i < len(all); i++ {
		if all[i].Number == all[i-1].Number {
			all[i].twice, all[i-1].twice = true, true
		}
	}
	return all
}

// choose picks the generation that the key's URI means.
func (k *key) choose(all []member) (member, error) {
	own := ParseName(k.uri.Object)
	pending := 0
	for _, m := range slices.Backward(all) {
		switch {
		case own.Given && m.Number != own.Number:
			continue
		case !own.Given && m.Pending:
			pending++
			continue
		case m.twice:
			return m, fmt.Errorf("%w: two keys of the token are generation %d", ErrKeyAmbiguous, m.Number)
		}
		return m, nil
	}
	if pending > 0 {
		return member{}, fmt.Errorf("%w: its only generation is pending; activate it with `gardu keys rotate --activate`", ErrKeyNotFound)
	}
	return member{}, fmt.Errorf("%w: the token holds no such object", ErrKeyNotFound)
}

// generation returns a given generation of the key, pending or not; it asks the
// token when it does not know of it.
func (k *key) generation(ctx context.Context, number int) (*resolved, error) {
	find := func() (member, bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		i := slices.IndexFunc(k.gens.members, func(m member) bool { return m.Number == number && !m.twice })
		if i < 0 {
			return member{}, false
		}
		return k.gens.members[i], true
	}
	m, ok := find()
	if !ok {
		if _, err := k.refresh(ctx); err != nil {
			return nil, err
		}
		if m, ok = find(); !ok {
			return nil, fmt.Errorf("%w: it was made by generation %d of the key, which the token does not hold any more", ErrCiphertext, number)
		}
	}
	return k.member(ctx, m)
}

// others are the generations beside the one in use, the newest first, as far as
// they can be found.
func (k *key) others(ctx context.Context) ([]*resolved, error) {
	now, err := k.resolve(ctx)
	if err != nil || k.plain() {
		return nil, err
	}
	k.mu.Lock()
	all := slices.Clone(k.gens.members)
	k.mu.Unlock()
	var found []*resolved
	for _, m := range slices.Backward(all) {
		if m.Number == now.gen || m.twice {
			continue
		}
		r, err := k.member(ctx, m)
		if err == nil {
			found = append(found, r)
		} else if c := ClassOf(err); c == ClassDevice || c == ClassSession || ctx.Err() != nil {
			return nil, err
		}
	}
	return found, nil
}

// ofPublic returns a Signer of the one generation that has this public half as PKIX
// DER, and stays with it: a certificate is for one key, whichever generation signs
// elsewhere. It is nil where no generation has it.
func (g *Signer) ofPublic(ctx context.Context, spki []byte) (*Signer, *resolved, error) {
	now, err := g.k.resolve(ctx)
	if err != nil {
		return nil, nil, err
	}
	others, err := g.k.others(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range append([]*resolved{now}, others...) {
		have, err := x509.MarshalPKIXPublicKey(r.public)
		if err != nil || !bytes.Equal(have, spki) {
			continue
		}
		if g.k.plain() {
			return g, r, nil
		}
		n := Name{Base: ParseName(g.k.uri.Object).Base, Number: r.gen, Given: true}
		uri := g.k.uri
		uri.Object = n.Label()
		return &Signer{k: &key{
			s: g.k.s, name: uri.object().String(), uri: uri, class: g.k.class, types: g.k.types, kind: g.k.kind, allowed: g.k.allowed, judge: g.k.judge,
		}}, r, nil
	}
	return nil, now, nil
}

// lost forgets which generation is in use when the token no longer has it, so that
// the next call looks again; what the generations are stays known.
func (k *key) lost(err error) {
	if k.plain() || !errors.Is(err, ErrKeyNotFound) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.found = nil
}

// Refresh looks for new generations of every key that was taken from the Store,
// and returns by the name of each key the generation now in use. Health does the
// same, less often. A key that cannot be found is left out.
func (s *Store) Refresh(ctx context.Context) (map[string]string, error) {
	s.mu.Lock()
	keys := slices.Clone(s.keys)
	s.mu.Unlock()
	inUse := map[string]string{}
	var all []error
	for _, t := range keys {
		k := t.tested()
		if k == nil || k.plain() {
			continue
		}
		r, err := k.refresh(ctx)
		if err != nil {
			all = append(all, err)
			if c := ClassOf(err); c == ClassDevice || c == ClassSession || ctx.Err() != nil {
				break
			}
			continue
		}
		inUse[k.name] = ParseName(r.info.Label).String()
	}
	return inUse, errors.Join(all...)
}

// Generation is one key of a name.
type Generation struct {
	Number int      `json:"generation"`
	State  GenState `json:"state"`
	Label  string   `json:"label"`
}

// States sorts labels into generations by name, oldest first.
func States(base string, labels []string) []Generation {
	all := members(base, labels)
	out := make([]Generation, len(all))
	active := false
	for i, m := range slices.Backward(all) {
		out[i] = Generation{Number: m.Number, Label: m.label, State: StateRetiring}
		switch {
		case m.Pending:
			out[i].State = StatePending
		case !active:
			out[i].State, active = StateActive, true
		}
	}
	return out
}

// Rename gives the one key that label and class name another label: by it a
// generation begins or ends to be pending. ErrUnsupported where the token does
// not rename keys.
func (s *Store) Rename(ctx context.Context, class, label, to string) (KeyInfo, error) {
	k, err := s.object(class, label)
	if err != nil {
		return KeyInfo{}, err
	}
	if _, err := ParseURI(URI{Object: to}.String()); err != nil {
		return KeyInfo{}, err
	}
	ask := protocol.Rename{Key: k.wire(label, nil), Label: to}
	var o protocol.Object
	_, err = s.do(ctx, &request{
		op: protocol.OpRename, verb: "rename", object: k.name, deadline: s.opts.CeremonyDeadline, body: ask.Append, check: o.Parse, once: true,
	})
	if errors.Is(err, ErrUnsupported) {
		if e, ok := errors.AsType[*Error](err); ok {
			e.Hint = "name the generation itself in the configuration (object=" + ParseName(label).String() + ") and restart gardu"
		}
	}
	if err != nil {
		return KeyInfo{}, err
	}
	return keyInfo(&o), nil
}

// object names one object of the token by class (as type= in a URI) and label.
func (s *Store) object(class, label string) (*key, error) {
	for c, name := range classNames {
		if name == class && label != "" {
			return s.key(URI{Object: label, Type: class}.String(), c, class, protocol.TypeAny)
		}
	}
	return nil, explain("use", label, configuration("a key has a name and is one of private and secret-key"))
}
