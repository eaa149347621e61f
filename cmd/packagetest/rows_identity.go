package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const repositoryAddress = "127.0.0.1:8790"

// identifies has the repository demand a client certificate, follows provisioning.md
// to one whose key is in the token, and updates by it.
func (b *bench) identifies(ctx context.Context) (string, error) {
	const version = "2.1.108"
	a, err := newAuthority()
	if err != nil {
		return "", err
	}
	server, err := a.forServer()
	if err != nil {
		return "", err
	}
	if err := errors.Join(b.c.put(visitDir+"/repository.pem", 0o600, server), b.c.put("/etc/gardu/bank-ca.pem", 0o644, a.pem())); err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "systemd-run", "--quiet", "--unit=repository", visitDir+"/bin/packagetest", "visit", "repository",
		repositoryAddress, repoPath, visitDir+"/repository.pem", "/etc/gardu/bank-ca.pem"); err != nil {
		return "", err
	}
	settings := "repository = \"https://" + repositoryAddress + "/\"\nca_file = \"/etc/gardu/bank-ca.pem\"\nsettle = \"30s\"\nwithin = \"90s\"\nwait_idle = \"20s\"\n"
	if err := b.setUpdate(settings); err != nil {
		return "", err
	}
	// What is said while something is missing, step by step.
	refused := func(code, what string) error {
		return until(ctx, 10*time.Second, func() error { // the server may not listen yet
			out, err := b.c.in(ctx, "gardu", "update", "check")
			if err == nil {
				return fmt.Errorf("it was let in: %s", out)
			}
			return has("gardu update check", err.Error(), "exit status "+code, what)
		})
	}
	if err := refused("4", "it asks for a client certificate; set update.client_key and update.client_cert"); err != nil {
		return "", err
	}
	if err := b.fetcherEnds(ctx); err != nil {
		return "", err
	}
	if err := b.setUpdate(settings + "client_key = \"pkcs11:object=update-tls\"\nclient_cert = \"/etc/gardu/update-tls.pem\"\n"); err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "gardu-as-service", "init"); err != nil {
		return "", err
	}
	request, err := b.c.in(ctx, "gardu-as-service", "keys", "csr", "update-tls", "--subject", "CN=kiosk 1,O=Bank,C=ID")
	if err != nil {
		return "", err
	}
	cert, err := a.forRequest(request)
	if err != nil {
		return "", err
	}
	if err := b.c.put("/etc/gardu/update-tls.pem", 0o644, cert); err != nil {
		return "", err
	}
	if err := refused("3", "LoadCredentialEncrypted=token-pin"); err != nil {
		return "", err
	}
	if err := b.fetcherEnds(ctx); err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, `mkdir -p /etc/systemd/system/gardu-fetch.service.d && printf '[Service]\nLoadCredentialEncrypted=token-pin:/etc/gardu/token-pin.cred\n' >/etc/systemd/system/gardu-fetch.service.d/override.conf && systemctl daemon-reload`); err != nil {
		return "", err
	}
	check, err := b.c.in(ctx, "gardu-as-service", "check")
	if err != nil {
		return "", err
	}
	if err := has("gardu check", check, "ok    key update tls-client", "ok    client certificate update    \"kiosk 1\"", "ok    tls update"); err != nil {
		return "", err
	}
	said, err := b.good(ctx, version, 0)
	if err != nil {
		return "", err
	}
	// Root has not touched the token: all of it is still the agent's.
	others, err := b.c.sh(ctx, "find /var/lib/gardu -not -user gardu; stat -c '%U %a' /run/gardu-fetch.sock; runuser -u gardu -- curl -s --unix-socket /run/gardu-fetch.sock http://x/metadata/timestamp.json || echo closed to others")
	if err != nil {
		return "", err
	}
	if others != "root 600\nclosed to others\n" {
		return "", fmt.Errorf("files and the socket are:\n%s", others)
	}
	log, err := b.c.sh(ctx, "journalctl --no-pager -q -o cat -u gardu-fetch.service | grep -c 'client certificate'; journalctl --no-pager -q -o cat -u gardu-update.service | grep -c 'token ready'; true")
	if err != nil {
		return "", err
	}
	if f := strings.Fields(log); len(f) != 2 || f[0] == "0" || f[1] != "0" {
		return "", fmt.Errorf("the certificate was read so often by the fetcher, the token opened so often by root: %v", f)
	}
	_, err = b.c.sh(ctx, "systemctl stop repository; rm -r /etc/systemd/system/gardu-fetch.service.d /etc/gardu/bank-ca.pem; systemctl daemon-reload")
	return said, errors.Join(err, b.fetcherEnds(ctx))
}

// fetcherEnds has the next fetcher read the configuration anew.
func (b *bench) fetcherEnds(ctx context.Context) error {
	_, err := b.c.in(ctx, "systemctl", "stop", "gardu-fetch.service")
	return err
}
