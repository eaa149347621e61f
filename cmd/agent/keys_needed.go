package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"gardu/internal/admin"
	"gardu/internal/keystore"
	"gardu/internal/queue"
)

// alone refuses to destroy what is no object of the token's own, and the public half of
// a key that is there: of an EC key the other half does not tell it.
func (t *ceremony) alone(ctx context.Context, k *keyRow) error {
	if w, ok := t.set.wrappedRole(k.Base); ok && k.Class == classWrapped {
		return fmt.Errorf("%s is kept outside the token, wrapped in %s: to be rid of it remove that file", k.Name, w.File)
	}
	if k.Class != "public" {
		return nil
	}
	all, err := t.rows(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if o := &all[i]; o.Class == "private" && (o.Label == k.Label || len(o.ID) > 0 && bytes.Equal(o.ID, k.ID)) {
			return fmt.Errorf("this is the public half of %s, which is there and needs it; 'gardu keys destroy %s' destroys both", o.Name, o.Name)
		}
	}
	return nil
}

// needed refuses to destroy a key under which the journal still holds something.
func (t *ceremony) needed(ctx context.Context, k *keyRow) error {
	if !k.own() {
		return nil
	}
	for _, w := range t.set.Wrapped {
		if !k.isFor(w.By) {
			continue
		}
		u, err := keystore.ParseURI(w.Key)
		if err != nil {
			return err
		}
		by, err := t.keys.WrappedBy(u.Object)
		switch {
		case errors.Is(err, keystore.ErrKeyNotFound): // no file, nothing under it
		case err != nil:
			return fmt.Errorf("nothing was destroyed, since nobody can say by which key %s is wrapped: %w", w.File, err)
		case k.isOne(by):
			return fmt.Errorf("%s wraps the key %s, which stands in %s; rotate it, remove that file, and import that key again first", k.Name, w.Key, w.File)
		}
	}
	if err := t.set.certified(k); err != nil {
		return err
	}
	if err := t.shown(ctx, k); err != nil {
		return err
	}
	var names []string
	var err error
	switch {
	case k.isFor(t.set.Journal.KEK):
		names, err = t.journalKEKs(ctx)
	case k.isFor(t.set.Journal.PINKEK):
		names, err = t.secretKEKs(ctx, k)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing was destroyed, since the journal may need %s: %w", k.Name, err)
	}
	for _, n := range names {
		if k.isOne(n) {
			return fmt.Errorf("nothing was destroyed: the journal still holds something under %s, which would be lost; "+
				"rotate the key if that is not done, let the agent run for a minute so that the journal moves to the new one, and try again", k.Name)
		}
	}
	return nil
}

// journalKEKs asks the running agent, or the journal's file where none runs.
func (t *ceremony) journalKEKs(ctx context.Context) ([]string, error) {
	var now keysInUse
	err := admin.Ask(ctx, t.set.Admin.Socket, verbKeys, nil, &now)
	if errors.Is(err, admin.ErrNotRunning) {
		return queue.KEKs(t.set.Journal.Path)
	}
	if err == nil && now.Journal == nil {
		err = errors.New("the agent runs and its journal is not open; let it come into service, or stop it")
	}
	return now.Journal, err
}

// secretKEKs are the keys of the token that PINs and one-time passwords need. A
// running agent wraps by the newest from then on, and has filed what it was wrapping.
func (t *ceremony) secretKEKs(ctx context.Context, k *keyRow) ([]string, error) {
	var now keysInUse
	err := admin.Ask(ctx, t.set.Admin.Socket, verbKeys, nil, &now)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return queue.SecretKEKs(t.set.Journal.KeyDir)
	case err != nil:
		return nil, fmt.Errorf("%w; stop the agent, then try again", err)
	case now.Journal == nil: // and so nothing is being sealed
		return queue.SecretKEKs(t.set.Journal.KeyDir)
	case now.Secrets == nil:
		return nil, errors.New("the agent that runs is of another version; restart it")
	}
	used := now.uses(k.Base)
	switch {
	case used == k.Name:
		return nil, errors.New("the agent uses it for whatever PIN comes next; rotate the key, or stop the agent first")
	case used == "" && now.Failed != "":
		return nil, fmt.Errorf("the agent cannot tell which generation it uses: %s", now.Failed)
	}
	return now.Secrets, nil
}

// shown refuses to destroy a key whose certificate the running agent uses: it goes on
// with that until its next connection, whatever stands in the file by now.
func (t *ceremony) shown(ctx context.Context, k *keyRow) error {
	if r := t.set.roleOf(k.Base); r.kind != keystore.KindECP256 {
		return nil
	}
	var now keysInUse
	err := admin.Ask(ctx, t.set.Admin.Socket, verbKeys, nil, &now)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing was destroyed, since the agent does not say which certificate it uses: %w", err)
	}
	if slices.Contains(now.Shown, k.Fingerprint) {
		return fmt.Errorf("nothing was destroyed: the agent that runs uses the certificate of %s; have it make a connection with the one of another generation ('gardu check' says whether that one is good), or restart gardu, and try again", k.Name)
	}
	return nil
}
