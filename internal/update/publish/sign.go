package publish

import (
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// signed is one draft for signing, whatever its role.
type signed struct {
	role string
	sign func(id string, s Signer) error
	have func() []string
}

// drafts lists what is to be signed.
func (r *Repo) drafts() ([]signed, error) {
	var all []signed
	b, err := r.drafted(Root)
	if err != nil {
		return nil, err
	}
	if b != nil {
		root, err := metadata.Root().FromBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.draft(Root), err)
		}
		all = append(all, signable(r, Root, root, &root.Signatures, root.Signed))
	}
	if b, err = r.drafted(Targets); err != nil {
		return nil, err
	}
	if b != nil {
		t, err := metadata.Targets().FromBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.draft(Targets), err)
		}
		all = append(all, signable(r, Targets, t, &t.Signatures, t.Signed))
	}
	return all, nil
}

func signable(r *Repo, role string, m interface{ ToBytes(bool) ([]byte, error) }, sigs *[]metadata.Signature, body any) signed {
	return signed{
		role: role,
		sign: func(id string, s Signer) error {
			sig, err := signature(id, s, body)
			if err != nil {
				return err
			}
			*sigs = append(slices.DeleteFunc(*sigs, func(o metadata.Signature) bool { return o.KeyID == id }), sig)
			return r.saveDraft(role, m)
		},
		have: func() []string {
			var ids []string
			for _, s := range *sigs {
				ids = append(ids, s.KeyID)
			}
			return ids
		},
	}
}

func signature(id string, s Signer, body any) (metadata.Signature, error) {
	b, err := cjson.EncodeCanonical(body)
	if err != nil {
		return metadata.Signature{}, err
	}
	sig, err := s.Sign(b)
	if err != nil {
		return metadata.Signature{}, fmt.Errorf("sign: %w", err)
	}
	return metadata.Signature{KeyID: id, Signature: sig}, nil
}

// Signers says for each draft who may sign it, and who has.
type Signers struct {
	Role      string
	Version   int64
	Threshold int      // of Keys
	Keys      []string // ids that count
	Old       []string // for a root: ids of the root before, of which OldThreshold must sign too
	OldNeeds  int
	Have      []string
}

// Enough reports whether Publish will take the draft.
func (s Signers) Enough() bool {
	return count(s.Have, s.Keys) >= s.Threshold && count(s.Have, s.Old) >= s.OldNeeds
}

func count(have, of []string) int {
	n := 0
	for _, id := range of {
		if slices.Contains(have, id) {
			n++
		}
	}
	return n
}

// Drafts tells how far the drafts are.
func (r *Repo) Drafts() ([]Signers, error) {
	ds, err := r.drafts()
	if err != nil || len(ds) == 0 {
		return nil, err
	}
	next, err := r.nextRoot()
	if err != nil {
		return nil, err
	}
	var all []Signers
	for _, d := range ds {
		s := Signers{Role: d.role, Threshold: next.Signed.Roles[d.role].Threshold, Keys: next.Signed.Roles[d.role].KeyIDs, Have: d.have()}
		v, err := r.newest(d.role)
		if err != nil {
			return nil, err
		}
		s.Version = v + 1
		if d.role == Root && v > 0 {
			cur, err := r.currentRoot()
			if err != nil {
				return nil, err
			}
			s.Old, s.OldNeeds = cur.Signed.Roles[Root].KeyIDs, cur.Signed.Roles[Root].Threshold
		}
		all = append(all, s)
	}
	return all, nil
}

// Sign adds a key's signature to every draft that it counts for, and says which
// these were. ErrWrongKey where there was none.
func (r *Repo) Sign(s Signer) (roles []string, err error) {
	pub, err := s.Public()
	if err != nil {
		return nil, err
	}
	id, err := KeyID(pub)
	if err != nil {
		return nil, err
	}
	err = r.locked(func() error {
		roles, err = r.sign(id, s)
		return err
	})
	return roles, err
}

func (r *Repo) sign(id string, s Signer) ([]string, error) {
	who, err := r.Drafts()
	if err != nil {
		return nil, err
	}
	ds, err := r.drafts()
	if err != nil {
		return nil, err
	}
	var done []string
	for i, d := range ds {
		if !slices.Contains(who[i].Keys, id) && !slices.Contains(who[i].Old, id) {
			continue
		}
		if err := d.sign(id, s); err != nil {
			return done, err
		}
		done = append(done, d.role)
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrWrongKey, id)
	}
	return done, nil
}
