package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthcheckCmd asks the node on its own machine or container for its health. An image that holds nothing but meterd
// has no curl for that.
type healthcheckCmd struct {
	OpsListen string        `default:"127.0.0.1:4882" env:"METERD_OPS_LISTEN" placeholder:"HOST:PORT" help:"Operations endpoint of the node, as it was given to it; every address (0.0.0.0) is asked at 127.0.0.1."`
	TLSCert   string        `env:"METERD_TLS_CERT" type:"path" placeholder:"FILE" help:"Given if the node serves TLS, as it was given to it."`
	Live      bool          `help:"Ask whether the process lives (/livez) instead of whether it takes calls (/readyz)."`
	Timeout   time.Duration `default:"3s" placeholder:"DURATION" help:"How long to wait for the answer."`
}

func (cmd *healthcheckCmd) Run(c *console) error {
	host, port, err := net.SplitHostPort(cmd.OpsListen)
	if number, bad := net.LookupPort("tcp", port); err != nil || bad != nil || number == 0 {
		return fmt.Errorf("--ops-listen %s: must be the HOST:PORT at which the node's operations endpoint listens", cmd.OpsListen)
	}
	if cmd.Timeout <= 0 {
		return fmt.Errorf("--timeout %v: must be more than nothing", cmd.Timeout)
	}
	if ip := net.ParseIP(host); host == "" || ip.Equal(net.IPv4zero) {
		host = "127.0.0.1"
	} else if ip.Equal(net.IPv6unspecified) {
		host = "::1"
	}
	scheme, path := "http", "/readyz"
	if cmd.TLSCert != "" {
		scheme = "https"
	}
	if cmd.Live {
		path = "/livez"
	}
	client := http.Client{Timeout: cmd.Timeout, Transport: &http.Transport{
		// No proxy, because the node is on this machine. Its certificate is for the name that clients use, and its answer is
		// no secret.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	address := scheme + "://" + net.JoinHostPort(host, port)
	request, err := http.NewRequestWithContext(c.ctx, http.MethodGet, address+path, nil)
	if err != nil {
		return fmt.Errorf("--ops-listen %s: %w", cmd.OpsListen, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		err = unreached(err, address)
		if errors.Is(err, http.ErrSchemeMismatch) {
			err = fmt.Errorf("%w; leave --tls-cert and METERD_TLS_CERT out", err)
		}
		return fmt.Errorf("not healthy: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		_, err := fmt.Fprintln(c.stdout, "ok")
		return err
	}
	var said struct{ Reason string }
	_ = json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&said)
	if said.Reason == "" {
		return fmt.Errorf("not healthy: the answer of %s is %s, and not from a node's operations endpoint: --ops-listen says where that is", address+path, answer.Status)
	}
	return fmt.Errorf("not healthy: %s: %s: %s", address+path, answer.Status, said.Reason)
}
