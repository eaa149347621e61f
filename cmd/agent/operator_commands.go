package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"gardu/internal/audit"
	"gardu/internal/operator"
)

var discardLog = slog.New(slog.DiscardHandler)

// operatorCommand is about who may open the operator screen.
func (a *app) operatorCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add ID", Short: "Let somebody in: prints a QR code for their authenticator and recovery codes, once",
		Long: `add puts an operator into the file that screen.operators_file names, and prints,
this one time, what makes them that operator: a code for their authenticator app,
and ten recovery codes for paper. ID has digits only: the screen's keypad has no
more. A running agent takes it with 'systemctl reload gardu'.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.addOperator(c.Context(), args[0]) },
	}
	list := &cobra.Command{
		Use: "list", Short: "List who may open the operator screen", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.listOperators() },
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Let somebody in no more", Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.removeOperator(c.Context(), args[0]) },
	}
	return group("operator", "Say who may open the operator screen", add, list, remove)
}

// operatorSettings are the settings, which must name an operators' file.
func (a *app) operatorSettings() (*settings, error) {
	set, err := loadSettings(a.config)
	if err != nil {
		return nil, err
	}
	if set.Screen.Operators == "" {
		return nil, fmt.Errorf("%s names no operators' file, so there is no operator screen; give screen.operators_file, such as \"/etc/gardu/operators.toml\", and restart the agent", a.config)
	}
	return set, nil
}

// withRecord does something to the operators' file between two audit records.
func withRecord(ctx context.Context, set *settings, act, id string, do func() error) (err error) {
	if err := set.makeFolders(); err != nil {
		return err
	}
	_, missing := os.Stat(set.Audit.Path)
	rec, err := audit.Open(ctx, audit.Options{Path: set.Audit.Path, Who: whoami(), Log: discardLog})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }()
	if errors.Is(missing, fs.ErrNotExist) {
		if err := auditOwner(set.Audit.Path); err != nil {
			return err
		}
	}
	e := audit.Entry{Act: act + ".begin", Object: operatorName(id), Who: whoami(), Sync: true}
	if _, err := rec.Append(ctx, e); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	e.Act = act + ".end"
	err = do()
	if err != nil {
		e.Act = act + ".fail"
	}
	_, aerr := rec.Append(context.WithoutCancel(ctx), e)
	return errors.Join(err, aerr)
}

func (a *app) addOperator(ctx context.Context, id string) error {
	set, err := a.operatorSettings()
	if err != nil {
		return err
	}
	m, err := operator.Make(id, set.Screen.Brand)
	if err != nil {
		return withCode(exitUsage, err)
	}
	err = withRecord(ctx, set, "operator.add", id, func() error { return operator.Add(set.Screen.Operators, m) })
	switch {
	case errors.Is(err, operator.ErrThere):
		return fmt.Errorf("%w; for a new authenticator or new recovery codes remove them first with 'gardu ui operator remove %s'", err, id)
	case err != nil:
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"id": m.ID, "uri": m.URI, "recovery": m.Recovery})
	}
	code, err := qr.Encode(m.URI, qr.L)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	if err := printQR(a.out, code); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "\n%s\n\nRecovery codes, each good once, for the day this machine's clock is wrong:\n  %s\n\n"+
		"This is shown once. Scan the code now, put the recovery codes on paper, clear this\nterminal, and let a running agent take it: systemctl reload gardu\n",
		m.URI, strings.Join(m.Recovery, "\n  "))
	return err
}

// printQR draws a QR code for a terminal, two modules to a character, dark on light
// with the four modules of white around it that readers need.
func printQR(w io.Writer, code *qr.Code) error {
	const quiet = 4
	blocks := map[[2]bool]string{{false, false}: "█", {false, true}: "▀", {true, false}: "▄", {true, true}: " "}
	var out strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			out.WriteString(blocks[[2]bool{code.Black(x, y), code.Black(x, y+1)}])
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (a *app) listOperators() error {
	set, err := a.operatorSettings()
	if err != nil {
		return err
	}
	g, err := operator.Open(set.Screen.Operators, set.operatorsState(), discardLog, time.Now)
	if err != nil {
		return err
	}
	all := g.All()
	switch {
	case a.json:
		return a.printJSON(all)
	case len(all) == 0:
		_, err := fmt.Fprintln(a.out, "Nobody may open the operator screen; add somebody with 'gardu ui operator add ID'.")
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tRECOVERY CODES LEFT")
	for _, o := range all {
		_, _ = fmt.Fprintf(w, "%s\t%d\n", o.ID, o.Recovery)
	}
	return w.Flush()
}

func (a *app) removeOperator(ctx context.Context, id string) error {
	set, err := a.operatorSettings()
	if err != nil {
		return err
	}
	err = withRecord(ctx, set, "operator.remove", id, func() error { return operator.Remove(set.Screen.Operators, id) })
	if errors.Is(err, operator.ErrAbsent) {
		return fmt.Errorf("%w; see who is with 'gardu ui operator list'", err)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"removed": id})
	}
	_, err = fmt.Fprintf(a.out, "%s is out of the file. A running agent lets them in until it reads it again: systemctl reload gardu\n", id)
	return err
}
