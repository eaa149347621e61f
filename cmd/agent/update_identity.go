package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/config"
	"gardu/internal/keystore"
	"gardu/internal/update"
)

// identity is by what the repository is told who asks: a key in the token. It has
// nothing of the agent's, which may be what a release is there to mend; the token is
// opened when the repository is first asked, and not where no key is set.
type identity struct {
	config string
	view   *updateView
	log    *slog.Logger

	ag *agent // once the token is open
}

// certificate implements update.SourceOptions.Certificate. The token works until
// close.
func (i *identity) certificate(ctx context.Context) (*tls.Certificate, error) {
	c, err := i.take(ctx)
	if keystore.ClassOf(err) != keystore.ClassNone {
		err = update.OfToken(err)
	}
	return c, err
}

func (i *identity) take(ctx context.Context) (*tls.Certificate, error) {
	if i.ag == nil {
		set := defaultSettings()
		set.file, set.Admin = i.config, i.view.Admin
		part := struct {
			Token tokenSettings `toml:"token"`
		}{set.Token}
		if err := config.ReadTables(i.config, &part, "token"); err != nil {
			return nil, err
		}
		set.Token = part.Token
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

// fetcherIdle is how long a fetcher that nobody asks keeps the token open.
const fetcherIdle = 15 * time.Second

func (a *app) updateFetchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "fetch", Short: "What gardu-fetch.service does", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.becomeCommitted(); err != nil {
				_, _ = fmt.Fprintf(a.err, "gardu: the committed version does not fetch (%v); this copy does\n", err)
			}
			return a.serveFetches(c.Context())
		},
	}
}

// serveFetches goes to the repository in root's place, and to none but the configured
// one.
func (a *app) serveFetches(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid other programs of this user to look into the memory: %w", err)
	}
	v, err := readUpdateView(a.config)
	if err != nil {
		return err
	}
	log, err := newLog(a.err, v.Log)
	if err != nil {
		return err
	}
	l, err := inherited("gardu-fetch.socket")
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("this is started by gardu-fetch.socket; to fetch by hand run 'gardu update check'")
	}
	id := &identity{config: a.config, view: v, log: log}
	defer id.close()
	src, err := update.NewSource(v.Update.source(v.Update.Repository, id))
	if err != nil {
		return err
	}
	defer src.Close()
	return update.ServeFetches(ctx, l, src, fetcherIdle)
}

// source says how a repository is reached by who goes to the network.
func (s *updateSettings) source(repository string, id *identity) update.SourceOptions {
	o := update.SourceOptions{URL: repository, CAFile: s.CAFile, Proxy: s.Proxy, Missing: s.MissingStatus}
	if s.ClientKey != "" {
		o.Certificate = id.certificate
	}
	return o
}

// fetcher is the socket of the one who goes to the network for root; empty where there
// is none, and this program goes itself.
func (a *app) fetcher() string {
	var st unix.Stat_t
	if a.prefix != "" || unix.Stat(update.FetcherSocket, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return ""
	}
	return update.FetcherSocket
}
