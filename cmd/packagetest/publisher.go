package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gardu/internal/update/publish"
)

// publisher is a bank's release office with keys of its own for this machine. Its
// repository lies in the machine's file system, as on a USB stick.
type publisher struct {
	repo    *publish.Repo
	root    []publish.Signer
	targets []publish.Signer
	online  publish.Online
}

func newPublisher(dir string) (*publisher, error) {
	var errs []error
	key := func() publish.Signer {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		errs = append(errs, err)
		return publish.Plain(k)
	}
	public := func(all ...publish.Signer) (keys []crypto.PublicKey) {
		for _, s := range all {
			k, err := s.Public()
			errs = append(errs, err)
			keys = append(keys, k)
		}
		return keys
	}
	p := &publisher{
		repo: publish.Open(dir), root: []publish.Signer{key(), key(), key()}, targets: []publish.Signer{key(), key()},
		online: publish.Online{Snapshot: key(), Timestamp: key()},
	}
	err := p.repo.Begin(publish.Roles{
		publish.Root:      {Keys: public(p.root...), Threshold: 2},
		publish.Targets:   {Keys: public(p.targets...), Threshold: 2},
		publish.Snapshot:  {Keys: public(p.online.Snapshot), Threshold: 1},
		publish.Timestamp: {Keys: public(p.online.Timestamp), Threshold: 1},
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("hold the key ceremony: %w", err)
	}
	return p, p.publish()
}

// publish has two of three and two of two sign what is drafted, and publishes it.
func (p *publisher) publish() error {
	for _, s := range []publish.Signer{p.root[0], p.root[1], p.targets[0], p.targets[1]} {
		if _, err := p.repo.Sign(s); err != nil && !errors.Is(err, publish.ErrWrongKey) {
			return fmt.Errorf("sign the draft: %w", err)
		}
	}
	if _, err := p.repo.Publish(p.online); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// release publishes a program for every kiosk.
func (p *publisher) release(version, program string) error {
	if err := p.repo.AddRelease(publish.Release{Version: version, Programs: map[string]string{"amd64": program}, Channel: "stable", Percent: 100}); err != nil {
		return fmt.Errorf("add release %s: %w", version, err)
	}
	return p.publish()
}

// copyTo makes a copy for a USB stick, whose metadata lives longer.
func (p *publisher) copyTo(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // G301: a machine's file system
		return err
	}
	return p.repo.Cut(dir, 90*24*time.Hour, p.online)
}

// sumOf is the SHA-256 of a file, in hexadecimal.
func sumOf(path string) (string, error) {
	b, err := os.ReadFile(path) //nolint:gosec // G304: what the test itself built
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
