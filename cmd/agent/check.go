package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// finding is one line of the preflight.
type finding struct {
	What    string `json:"what"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail"`
	Network bool   `json:"-"`
	Token   bool   `json:"-"`
}

func (a *app) checkCommand() *cobra.Command {
	var provider, sample string
	cmd := &cobra.Command{
		Use: "check", Short: "Look at everything a kiosk needs, without any effect on a customer",
		Long: `check looks at configuration, token, keys and the way to each provider, one line each.
It logs in to the token once, asks each SNAP provider for an access token and opens
a connection to each other one; nothing of it has an effect on a customer.

With --provider prepaid --sample FILE it tries an encrypted token that the platform
has sent against the settings instead, without a network, and shows no value of it.`,
		Example: "  gardu check --json\n  gardu check --provider prepaid --sample token.json",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case provider == "" && sample == "":
				return a.check(c.Context())
			case provider == "prepaid" && sample != "":
				return a.checkSample(c.Context(), sample)
			}
			return withCode(exitUsage, errors.New("--provider prepaid and --sample FILE go together; other providers have no envelope to try"))
		},
	}
	cmd.Flags().StringVar(&provider, "provider", "", "with --sample: prepaid")
	cmd.Flags().StringVar(&sample, "sample", "", "`FILE` with an encrypted token, as JSON envelope or bare Base64")
	return cmd
}

func (a *app) check(ctx context.Context) error {
	var all []finding
	add := func(f finding, err error) {
		f.OK = err == nil
		if err != nil {
			f.Detail = err.Error()
		}
		all = append(all, f)
	}
	set, err := loadSettings(a.config)
	add(finding{What: "configuration", Detail: a.config}, err)
	if err == nil {
		a.checkToken(ctx, set, add)
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else {
		for _, f := range all {
			verdict := "ok  "
			if !f.OK {
				verdict = "FAIL"
			}
			_, _ = fmt.Fprintf(a.out, "%s  %-28s %s\n", verdict, f.What, f.Detail)
		}
	}
	return verdict(all)
}

// verdict picks the exit code: the token before the network, since without keys
// nothing can be asked.
func verdict(all []finding) error {
	code := exitDone
	n := 0
	for _, f := range all {
		switch {
		case f.OK:
			continue
		case f.Token:
			code = exitToken
		case f.Network && code == exitDone:
			code = exitNetwork
		case code == exitDone:
			code = exitFailed
		}
		n++
	}
	if n == 0 {
		return nil
	}
	return withCode(code, fmt.Errorf("%d of %d checks failed; each line above says what to do", n, len(all)))
}

func (a *app) checkToken(ctx context.Context, set *settings, add func(finding, error)) {
	log := slog.New(slog.DiscardHandler)
	ag := newAgent(set, log)
	keys, err := set.openKeystore(log)
	if err == nil {
		ag.keys = keys
		defer func() { _ = keys.Close() }()
		err = keys.Ready(ctx)
	}
	add(finding{What: "token", Token: true, Detail: set.Token.Token}, err)
	if err != nil {
		return
	}
	list, err := keys.List(ctx)
	add(finding{What: "keys", Token: true, Detail: fmt.Sprintf("%d objects", len(list))}, err)
	for _, r := range set.roles() {
		add(finding{What: "key " + r.name, Token: true, Detail: set.whereKept(r)}, ag.tryRole(ctx, r))
	}
	offers, _, err := ag.offers(ctx)
	if err != nil {
		add(finding{What: "providers", Token: true}, err)
		return
	}
	seen := map[string]bool{}
	for _, o := range offers {
		p := o.Policy
		if !p.Enabled {
			add(finding{What: "operation " + string(p.Operation)}, errors.New(p.Why))
			continue
		}
		add(finding{What: "operation " + string(p.Operation), Detail: "on"}, nil)
		prober, ok := o.Provider.(txn.Prober)
		if !ok || seen[p.Provider] {
			continue
		}
		seen[p.Provider] = true
		pctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		start := time.Now()
		err := prober.Probe(pctx)
		cancel()
		add(finding{What: "link " + p.Provider, Network: true, Detail: fmt.Sprintf("answered in %d ms", time.Since(start).Milliseconds())}, linkError(p.Provider, err))
	}
}

// linkError says what to do about a link that does not work.
func linkError(provider string, err error) error {
	if err == nil {
		return nil
	}
	var w *wire.Error
	if errors.As(err, &w) && w.Hint != "" {
		if strings.Contains(err.Error(), w.Hint) {
			return err
		}
		return fmt.Errorf("%w; %s", err, w.Hint)
	}
	return fmt.Errorf("%w; check the branch's line, name server and firewall, then %s.base_url in the configuration", err, provider)
}

// tryRole has a configured key do its work once.
func (ag *agent) tryRole(ctx context.Context, r role) error {
	switch r.kind {
	case "hmac-sha512":
		m, err := ag.keys.MAC(r.uri)
		if err != nil {
			return err
		}
		_, err = m.Sum(ctx, []byte("gardu check"))
		return err
	case "aes-192":
		c, err := ag.keys.Cipher(r.uri, 192)
		if err != nil {
			return err
		}
		_, err = c.EncryptCBC(ctx, make([]byte, 16), make([]byte, 16))
		return err
	case "aes-256":
		w, err := ag.keys.Wrapper(r.uri)
		if err != nil {
			return err
		}
		_, err = w.Wrap(ctx, make([]byte, 32), []byte("gardu check"))
		return err
	default:
		s, err := ag.keys.Signer(r.uri)
		if err != nil {
			return err
		}
		_, err = s.SignSHA256(ctx, []byte("gardu check"))
		return err
	}
}
