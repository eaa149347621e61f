package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Installed is a stage around an agent that was installed and provisioned by
// somebody else: its folder holds bin/gardu, bin/sandbox and gardu.toml, and
// nothing in it is built or made here but the sandbox's side. Addresses and secrets
// are chosen at the first call and kept.
func Installed(ctx context.Context, dir, run string, plan Plan) (*Stage, error) {
	s := &Stage{plan: plan, dir: dir, run: run}
	for _, d := range []string{s.Path("certs"), s.Path("log")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the stage's folder: %w", err)
		}
	}
	fresh, err := s.recall(ctx)
	if err != nil {
		return nil, err
	}
	if fresh {
		return s, s.remember()
	}
	return s, nil
}

// Introduce tells the sandbox who the installed agent is, from the public keys
// that it prints.
func (s *Stage) Introduce(ctx context.Context) error {
	for _, f := range []string{s.Path("bin", "gardu"), s.Path("gardu.toml")} {
		if _, err := os.Stat(f); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is missing: nothing is installed to introduce", filepath.Base(f))
		}
	}
	return s.writeSandbox(ctx)
}
