package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gardu/internal/config"
	"gardu/internal/keystore"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// registry is every provider that this program can speak with. A new one is one
// more row and the file that its row names; docs/adding-a-provider.md leads
// through it.
var registry = []registration{
	{"finpay", newFinpaySettings},
	{"netzme", newNetzmeSettings},
	{"prepaid", newPrepaidSettings},
}

// registration is one provider: the name of its table in the configuration, which
// is also its name in policies, links and customers, and that table's defaults.
type registration struct {
	name  string
	table func() providerTable
}

// providerTable is one provider's table in the configuration file and what the
// program makes of it. It is a pointer to a struct with toml tags.
type providerTable interface {
	// check says what cannot be used, without a token and without a network.
	check(s *settings, bad problem) error
	// roles are the keys that the provider needs in the token.
	roles() []role
	// link is where the platform is and how it is reached.
	link() (baseURL string, tls *linkSettings)
	// proof is what a probe of the provider is given, such as "access token"; empty
	// where a probe proves no more than that the link stands.
	proof() string
	// build makes the provider from the table and its keys. The policies are
	// returned with an error too: what cannot be built is shown as switched off.
	build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error)
}

// problem makes the error about one key, written "table.key": what is wrong with it,
// and what to do.
type problem func(key, problem, hint string) error

// provider is one that the configuration has a table for.
type provider struct {
	name string
	providerTable
}

// providersOf are the providers of the registry whose tables a file has, with
// their defaults.
func providersOf(tables map[string]any) []provider {
	var all []provider
	for _, r := range registry {
		if _, ok := tables[r.name]; ok {
			all = append(all, provider{r.name, r.table()})
		}
	}
	return all
}

// tableOf is a configured provider's table of one type, nil where there is none.
func tableOf[T providerTable](s *settings) T {
	for _, p := range s.providers {
		if t, ok := p.providerTable.(T); ok {
			return t
		}
	}
	var none T
	return none
}

// document is what the configuration file is decoded into: a struct of pointers to
// the program's own sections and to the table of each provider. It is put together
// here because the providers' tables are not known to the type of settings.
func (s *settings) document() any {
	var fields []reflect.StructField
	var values []reflect.Value
	section := func(name, tag string, v reflect.Value) {
		fields = append(fields, reflect.StructField{Name: name, Type: v.Type(), Tag: reflect.StructTag(fmt.Sprintf("toml:%q", tag))})
		values = append(values, v)
	}
	all := reflect.ValueOf(s).Elem()
	for i := range all.NumField() {
		if f := all.Type().Field(i); f.IsExported() {
			section(f.Name, f.Tag.Get("toml"), all.Field(i).Addr())
		}
	}
	for _, p := range s.providers {
		section("Provider_"+p.name, p.name, reflect.ValueOf(p.providerTable))
	}
	d := reflect.New(reflect.StructOf(fields))
	for i, v := range values {
		d.Elem().Field(i).Set(v)
	}
	return d.Interface()
}

// checkProviders holds each provider's table against its own rules, and the way to
// its platform against those of package wire.
func (s *settings) checkProviders(bad problem) error {
	if len(s.providers) == 0 {
		names := make([]string, len(registry))
		for i, r := range registry {
			names[i] = "[" + r.name + "]"
		}
		last := len(names) - 1
		return bad("", "no provider is configured", "add a "+strings.Join(names[:last], ", ")+" or "+names[last]+" table")
	}
	for _, p := range s.providers {
		if err := p.check(s, bad); err != nil {
			return err
		}
	}
	if err := s.checkWrapped(bad); err != nil {
		return err
	}
	return s.checkSeparation(bad)
}

// checkKey holds a key's URI against the rules of RFC 7512.
func checkKey(bad problem, key, uri, example string) error {
	if _, err := keystore.ParseURI(uri); err != nil {
		return bad(key, err.Error(), `name the key in the token, such as "pkcs11:object=`+example+`"`)
	}
	return nil
}

// firstError is the first that is one.
func firstError(errs ...error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// offers builds the providers. One that cannot be built does not take the others
// along: its operations are switched off and say why, and off counts it.
func (ag *agent) offers(ctx context.Context) (all []txn.Offer, off int, _ error) {
	for _, p := range ag.set.providers {
		built, policies, err := p.build(ctx, ag)
		if passing(ctx, err) {
			return nil, 0, err
		}
		if err != nil {
			built = nil // not a typed nil, which would pass for a provider
			off++
			ag.log.Error("operations are switched off", "provider", p.name, "error", err)
		}
		for _, pol := range policies {
			all = append(all, txn.Offer{Policy: ag.set.adjusted(pol, err), Provider: built})
		}
	}
	return all, off, nil
}

// adjusted is a policy with what [delivery] says; err is why its provider could
// not be built.
func (s *settings) adjusted(pol txn.Policy, err error) txn.Policy {
	if d := time.Duration(s.Delivery.QuietTime); d > 0 && pol.Readback {
		pol.Quiet = d
	}
	if d := time.Duration(s.Delivery.UnresolvedAfter); d > 0 && !pol.Readback {
		pol.Settle = d
	}
	if err != nil {
		pol.Enabled, pol.Why = false, err.Error()
	}
	return pol
}

// checkProviders finds at start what no trying again mends: a certificate file
// that is not one, a setting the client refuses.
func (ag *agent) checkProviders() error {
	var all []error
	for _, p := range ag.set.providers {
		_, l := p.link()
		if _, err := wire.New(l.Options); err != nil {
			all = append(all, &config.Error{File: ag.set.file, Line: config.Line(ag.set.file, p.name+".tls"), Key: p.name + ".tls", Err: err, Hint: "correct it"})
		}
	}
	return errors.Join(all...)
}
