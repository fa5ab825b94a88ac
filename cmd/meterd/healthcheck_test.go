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
			ask("0.0.0.0:"+port, "503 Service Unavailable: the service is shutting down", false)
			ask("0.0.0.0:"+port, "", true)
			ask("127.0.0.1", "must be the HOST:PORT", false)
			ask("0.0.0.0:0", "must be the HOST:PORT", false)
			gone, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			gone.Close()
			ask(gone.Addr().String(), "not healthy: nothing listens at "+name+"://"+gone.Addr().String(), false)
			ask("127.0.0.1:99999", "must be the HOST:PORT", false)
			_, admin, _ := net.SplitHostPort(s.endpoints[1].listener.Addr().String())
			ask("127.0.0.1:"+admin, "401 Unauthorized, and not from a node's operations endpoint: --ops-listen says where that is", false)
			if said, err := execute(t, &healthcheckCmd{OpsListen: "127.0.0.1:" + port}); err == nil || !strings.Contains(err.Error(), "--timeout 0s") {
				t.Errorf("without a timeout: %q, %v", said, err)
			}
			if name == "http" {
				said, err := execute(t, &healthcheckCmd{OpsListen: "127.0.0.1:" + port, TLSCert: "cert.pem", Timeout: patience})
				if want := "not healthy: https://127.0.0.1:" + port + ": the service has no certificate there; leave --tls-cert and METERD_TLS_CERT out"; err == nil || err.Error() != want {
					t.Errorf("by TLS: %q, %v, want %s", said, err, want)
				}
			}
		})
	}
}
