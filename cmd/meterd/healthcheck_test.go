package main

import (
	"net"
	"strings"
	"testing"
)

// TestHealthcheck asks a node that takes calls, one that drains, and one that is not there, as it was told to listen.
func TestHealthcheck(t *testing.T) {
	for name, flags := range map[string]serviceFlags{"http": {MaxConnections: 5}, "https": withCertificate(t, serviceFlags{MaxConnections: 5})} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, flags, func(*service) {})
			_, port, _ := net.SplitHostPort(s.endpoints[2].listener.Addr().String())
			ask := func(address, says string, live bool) {
				t.Helper()
				said, err := execute(t, &healthcheckCmd{OpsListen: address, TLSCert: flags.TLSCert, Live: live, Timeout: patience})
				switch {
				case says == "" && (err != nil || said != "ok\n"):
					t.Errorf("%s: %q, %v", address, said, err)
				case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
					t.Errorf("%s: %v, want %s", address, err, says)
				}
			}
			for _, address := range []string{"127.0.0.1:", "localhost:", "0.0.0.0:", ":"} {
				ask(address+port, "", false)
			}
			s.ledger.Drain()
			ask("0.0.0.0:"+port, "503 Service Unavailable the service is shutting down", false)
			ask("0.0.0.0:"+port, "", true)
			ask("127.0.0.1", "must be the HOST:PORT", false)
			ask("0.0.0.0:0", "must be the HOST:PORT", false)
			gone, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			gone.Close()
			ask(gone.Addr().String(), "no answer: ", false)
		})
	}
}
