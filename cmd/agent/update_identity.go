package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"

	"gardu/internal/config"
)

// identity is by what the updater tells the repository who asks: a key in the token.
// It has nothing of the agent's, which may be what a release is there to mend; the
// token is opened when the repository is first asked, and not where no key is set.
type identity struct {
	config string
	view   *updateView
	log    *slog.Logger

	ag *agent // once the token is open
}

// certificate implements update.SourceOptions.Certificate. The token works until
// close.
func (i *identity) certificate(ctx context.Context) (*tls.Certificate, error) {
	if i.ag == nil {
		set := defaultSettings()
		set.file, set.Admin = i.config, i.view.Admin
		part := struct {
			Token tokenSettings `toml:"token"`
		}{set.Token}
		if err := config.ReadTables(i.config, &part, "token"); err != nil {
			return nil, err
		}
		set.Token, set.worker = part.Token, workerCredential()
		ag := newAgent(set, i.log)
		var err error
		if ag.keys, err = set.openKeystore(i.log); err != nil {
			return nil, err
		}
		i.ag = ag
	}
	if err := i.ag.keys.Ready(ctx); err != nil {
		return nil, err
	}
	c, err := i.ag.certificate(ctx, "update", "update", &i.view.Update.clientSettings)
	if err != nil {
		return nil, err
	}
	return c.now, nil
}

func (i *identity) close() {
	if i.ag != nil {
		_ = i.ag.keys.Close()
	}
}

// workerCredential is the service's user, for whom the vendor's module was set up and
// as whom alone it runs: as root it would do as it likes, and leave files behind that
// the agent cannot open. nil where we are not root, or there is no such user.
func workerCredential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(serviceUser)
	if err != nil {
		return nil
	}
	c := credentialOf(u)
	if c == nil {
		return nil
	}
	// Groups that let it at a token: its own, and those that a unit was given for that.
	own, _ := u.GroupIds()
	for _, g := range own {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	given, _ := os.Getgroups()
	for _, g := range given {
		if g > 0 && !slices.Contains(c.Groups, uint32(g)) { //nolint:gosec // G115: the kernel's own
			c.Groups = append(c.Groups, uint32(g)) //nolint:gosec // G115: likewise
		}
	}
	return c
}

// unsealTime is more than a TPM takes.
const unsealTime = 30 * time.Second

// unseal opens a sealed PIN where no unit has done so.
func unseal(name, sealed string) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		ctx, cancel := context.WithTimeout(ctx, unsealTime)
		c := exec.CommandContext(ctx, "systemd-creds", "decrypt", "--name="+name, sealed, "-") //nolint:gosec // G204: what the configuration of root's own names
		u := &unsealing{cmd: c, cancel: cancel}
		c.Stderr = &u.said
		var err error
		if u.ReadCloser, err = c.StdoutPipe(); err == nil {
			err = c.Start()
		}
		if err != nil {
			cancel()
			return nil, fmt.Errorf("%w; give the credential to the unit: LoadCredentialEncrypted=%s:%s", err, name, sealed)
		}
		return u, nil
	}
}

type unsealing struct {
	io.ReadCloser

	cmd    *exec.Cmd
	cancel context.CancelFunc
	said   bytes.Buffer
}

func (u *unsealing) Close() error {
	defer u.cancel()
	err := u.cmd.Wait() // closes the pipe too
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("%s: %w: %s; where the PIN is sealed with a TPM, give the credential to the unit: provisioning.md, \"Updates\"",
			u.cmd.Args[0], err, firstLine(bytes.TrimSpace(u.said.Bytes())))
	}
	return err
}
