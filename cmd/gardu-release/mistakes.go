package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"strings"

	"gardu/internal/update/publish"
)

// What a tired person gets wrong is refused before it is drafted; a kiosk would refuse
// the most of it too, but a fleet that refuses is a night's work.

// there opens the repository, and says before anything is asked that it is none.
func (t *tool) there() (*publish.Repo, error) {
	r := t.open()
	return r, r.Check()
}

// machines are the architectures that there are programs for, by their names in Go.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// isProgram reports an error unless a file is a Linux program for the architecture that
// holds the text of its version, as one does that was built as that version.
func isProgram(file, arch, version string) error {
	want, ok := machines[arch]
	if !ok {
		return usage("--program %s=%s: the architectures are amd64 and arm64", arch, file)
	}
	b, err := os.ReadFile(file) //nolint:gosec // G304: the person names it
	if err != nil {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%s is not a Linux program: %w", file, err)
	}
	if f.Machine != want {
		return fmt.Errorf("%s is a program for %s and not for %s; are the files exchanged?", file, strings.TrimPrefix(f.Machine.String(), "EM_"), arch)
	}
	if !bytes.Contains(b, []byte(version)) {
		return fmt.Errorf("%s was not built as version %s, and every kiosk would refuse it; build it with 'make release VERSION=%s', or name the version that '%s version' says", file, version, version, file)
	}
	return nil
}

// notOlder refuses a version lower than one that the channel offers: kiosks take what
// was released last, and would go back.
func notOlder(r *publish.Repo, version, channel string, meant bool) error {
	higher, err := r.Higher(version, channel)
	if err != nil || meant || higher == "" {
		return err
	}
	return fmt.Errorf("channel %s offers %s, which is higher: kiosks that have it would go back to %s. Give the release a higher version, or use 'gardu-release back' for one that is published; --older does it all the same", channel, higher, version)
}

// notFewer refuses a phase that goes backwards from what is published.
func notFewer(r *publish.Repo, version, channel string, percent int, meant bool) error {
	all, err := r.Published()
	if err != nil || meant {
		return err
	}
	i := slices.IndexFunc(all, func(o publish.Offered) bool { return o.Version == version && o.Channel == channel })
	if i >= 0 && percent < all[i].Standing.Percent {
		return fmt.Errorf("release %s goes to %d%% of the kiosks already, and %d%% takes it from none of them: 'gardu-release hold %s' stops it where it is, 'back' makes an older one the wanted one; --fewer does it all the same",
			version, all[i].Standing.Percent, percent, version)
	}
	return nil
}
