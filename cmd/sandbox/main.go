// Command sandbox plays the upstream platforms on loopback, for tests and the demo. README.md beside it says how to drive it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"gardu/cmd/sandbox/upstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

// errUsage is a wrong command line; the flag package has already said what is wrong.
var errUsage = errors.New("wrong usage")

type options struct {
	config, addrFile, makeCerts string
	listen                      upstream.ListenConfig
	tls                         upstream.TLSConfig
	window, ledgerCap           int
}

// run serves until the context ends.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	opts, err := parse(args, stderr)
	if err != nil {
		return err
	}
	cfg, err := opts.load()
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	server, err := upstream.New(cfg)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return errors.Join(err, server.Close()) //nolint:contextcheck // closing has a deadline of its own
	}
	if opts.addrFile != "" {
		if err := writeAddrs(opts.addrFile, server); err != nil {
			return errors.Join(err, server.Close()) //nolint:contextcheck // closing has a deadline of its own
		}
	}
	<-ctx.Done()
	return server.Close() //nolint:contextcheck // the context is over; closing has a deadline of its own
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.config, "config", "", "JSON `file` with the platforms to play (required)")
	flags.StringVar(&o.listen.Finpay, "finpay-addr", "", "loopback `address` of Finpay (default 127.0.0.1:0)")
	flags.StringVar(&o.listen.Netzme, "netzme-addr", "", "loopback `address` of Netzme (default 127.0.0.1:0)")
	flags.StringVar(&o.listen.Prepaid, "prepaid-addr", "", "loopback `address` of the prepaid platform (default 127.0.0.1:0)")
	flags.StringVar(&o.listen.Control, "control-addr", "", "loopback `address` of the control interface (default 127.0.0.1:0)")
	flags.StringVar(&o.addrFile, "addr-file", "", "write the real addresses to this JSON `file` once all listen")
	flags.StringVar(&o.makeCerts, "make-certs", "", "use ca.pem, server.pem and server.key in this `folder`; make them if absent")
	flags.StringVar(&o.tls.CertFile, "cert", "", "PEM `file` with the server's certificate")
	flags.StringVar(&o.tls.KeyFile, "key", "", "PEM `file` with its key")
	flags.StringVar(&o.tls.ClientCAFile, "client-ca", "", "PEM `file` with the authorities of client certificates; turns on mutual TLS")
	flags.StringVar(&o.tls.MinVersion, "tls-min", "", "lowest TLS `version`, 1.2 or 1.3 (default 1.3)")
	flags.IntVar(&o.window, "window", 0, "`minutes` a time stamp may be off (default 5)")
	flags.IntVar(&o.ledgerCap, "ledger-cap", 0, "how many exchanges are remembered (default 200000)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if o.config == "" || flags.NArg() > 0 {
		_, _ = fmt.Fprintln(stderr, "sandbox: give --config FILE and nothing besides flags; --help lists them")
		return o, errUsage
	}
	if o.makeCerts != "" && (o.tls.CertFile != "" || o.tls.KeyFile != "") {
		_, _ = fmt.Fprintln(stderr, "sandbox: give --make-certs or --cert and --key, not both")
		return o, errUsage
	}
	return o, nil
}

// load reads the configuration file and lets the flags that were given win.
func (o options) load() (upstream.Config, error) {
	file, err := os.Open(o.config)
	if err != nil {
		return upstream.Config{}, fmt.Errorf("open configuration: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	cfg, err := upstream.ReadConfig(file)
	if err != nil {
		return upstream.Config{}, fmt.Errorf("%s: %w", o.config, err)
	}
	if o.makeCerts != "" {
		if err := upstream.MakeCerts(o.makeCerts); err != nil {
			return upstream.Config{}, err
		}
		o.tls.CertFile, o.tls.KeyFile = filepath.Join(o.makeCerts, "server.pem"), filepath.Join(o.makeCerts, "server.key")
	}
	if o.tls.CertFile == "" && cfg.TLS.CertFile == "" {
		return upstream.Config{}, errors.New("no certificate: give --make-certs DIR, or --cert and --key")
	}
	for _, w := range []struct {
		flag string
		into *string
	}{
		{o.listen.Finpay, &cfg.Listen.Finpay},
		{o.listen.Netzme, &cfg.Listen.Netzme},
		{o.listen.Prepaid, &cfg.Listen.Prepaid},
		{o.listen.Control, &cfg.Listen.Control},
		{o.tls.CertFile, &cfg.TLS.CertFile},
		{o.tls.KeyFile, &cfg.TLS.KeyFile},
		{o.tls.ClientCAFile, &cfg.TLS.ClientCAFile},
		{o.tls.MinVersion, &cfg.TLS.MinVersion},
	} {
		if w.flag != "" {
			*w.into = w.flag
		}
	}
	if o.window != 0 {
		cfg.WindowMinutes = o.window
	}
	if o.ledgerCap != 0 {
		cfg.LedgerCap = o.ledgerCap
	}
	return cfg, nil
}

// writeAddrs writes the file in one step, so that a reader sees all of it or nothing.
func writeAddrs(path string, server *upstream.Server) error {
	addrs := map[string]string{}
	for _, name := range []string{upstream.Finpay, upstream.Netzme, upstream.Prepaid, upstream.Control} {
		if addr := server.Addr(name); addr != "" {
			addrs[name] = addr
		}
	}
	data, err := json.MarshalIndent(addrs, "", "  ")
	if err != nil {
		return fmt.Errorf("write addresses: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write addresses: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write addresses: %w", err)
	}
	return nil
}
