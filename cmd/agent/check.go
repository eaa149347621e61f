package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The verdicts of a finding. A warning does not fail the check.
const (
	verdictOK   = "ok"
	verdictWarn = "warn"
	verdictFail = "fail"
	verdictSkip = "skip" // it could not be looked at; another line says why
)

// finding is one line of the preflight.
type finding struct {
	What    string `json:"what"`
	OK      bool   `json:"ok"` // false for verdictFail alone
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Do      string `json:"do,omitempty"` // what to do about it

	code int // the exit code that it asks for
}

// preflight looks at one kiosk. Its lines come as they are found, since a name
// server that does not answer takes its time.
type preflight struct {
	a    *app
	self bool // no network: a new release judges itself and the configuration
	all  []finding
	dead []string // keys that do not work
}

func (a *app) checkCommand() *cobra.Command {
	var provider, sample string
	var self bool
	cmd := &cobra.Command{
		Use: "check", Short: "Look at everything a kiosk needs, without any effect on a customer",
		Long: `check looks at the configuration, the places on the disk, the clock, the token and each
key, the journal and the audit record, and the way to each provider: its name, its
port, TLS and certificates, where the provider has one an access token by a real
signature, and its clock. Each is one line: ok, warn, FAIL or skip, with what to do. It logs in to
the token once, may be run beside a running agent, and has no effect on a customer.

With --self it leaves the network alone and is done in seconds: so does an update
judge a release before it is used.

With --provider prepaid --sample FILE it tries an encrypted token that the platform
has sent against the settings instead, without a network, and shows no value of it.

Exit codes: 0 nothing failed, 1 something did, 3 the token or a key, 4 only the network.`,
		Example: "  gardu check\n  gardu check --self --json\n  gardu check --provider prepaid --sample token.json",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case provider == "" && sample == "":
				return a.check(c.Context(), self)
			case self:
				return withCode(exitUsage, errors.New("--self and --sample do not go together; run them one after the other"))
			case provider == "prepaid" && sample != "":
				return a.checkSample(c.Context(), sample)
			}
			return withCode(exitUsage, errors.New("--provider prepaid and --sample FILE go together; other providers have no envelope to try"))
		},
	}
	cmd.Flags().StringVar(&provider, "provider", "", "with --sample: prepaid")
	cmd.Flags().StringVar(&sample, "sample", "", "`FILE` with an encrypted token, as JSON envelope or bare Base64")
	cmd.Flags().BoolVar(&self, "self", false, "leave the network alone: what an update asks of a new release")
	return cmd
}

func (a *app) check(ctx context.Context, self bool) error {
	p := &preflight{a: a, self: self}
	set, err := loadSettings(a.config)
	if err != nil {
		p.failed(exitFailed, "configuration", err)
	} else {
		p.ok("configuration", "%s", a.config)
		p.host(set)
		p.token(ctx, set)
	}
	if a.json {
		if err := a.printJSON(p.all); err != nil {
			return err
		}
	}
	return p.verdict()
}

// add notes a line and prints it.
func (p *preflight) add(f finding) {
	f.OK = f.Verdict != verdictFail
	p.all = append(p.all, f)
	if p.a.json {
		return
	}
	printFinding(p.a.out, &f)
}

func printFinding(w io.Writer, f *finding) {
	word, text := f.Verdict, f.Detail
	if f.Verdict == verdictFail {
		word = "FAIL" // the one to be found in a page of lines
	}
	if f.Do != "" {
		text += "; " + f.Do
	}
	// One line each, whatever a driver or a platform put into its words.
	text = strings.Join(strings.Fields(text), " ")
	_, _ = fmt.Fprintf(w, "%-4s  %-28s %s\n", word, f.What, text)
}

func (p *preflight) ok(what, format string, args ...any) {
	p.add(finding{What: what, Verdict: verdictOK, Detail: fmt.Sprintf(format, args...)})
}

func (p *preflight) warn(what, detail, do string) {
	p.add(finding{What: what, Verdict: verdictWarn, Detail: detail, Do: do})
}

func (p *preflight) fail(code int, what, detail, do string) {
	p.add(finding{What: what, Verdict: verdictFail, Detail: detail, Do: do, code: code})
}

// failed is fail for an error whose own sentence says what to do.
func (p *preflight) failed(code int, what string, err error) {
	p.fail(code, what, err.Error(), "")
}

func (p *preflight) skip(what, why string) {
	p.add(finding{What: what, Verdict: verdictSkip, Detail: why})
}

// verdict picks the exit code: the token first, since without keys nothing else can
// be judged; the network last, since it is the one that mends itself.
func (p *preflight) verdict() error {
	code, n := exitDone, 0
	rank := map[int]int{exitDone: 0, exitNetwork: 1, exitFailed: 2, exitToken: 3}
	for _, f := range p.all {
		if f.OK {
			continue
		}
		n++
		if rank[f.code] > rank[code] {
			code = f.code
		}
	}
	if n == 0 {
		return nil
	}
	return withCode(code, fmt.Errorf("%d of %d checks failed; each line above says what to do", n, len(p.all)))
}
