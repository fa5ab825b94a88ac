package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
)

// checkURL parses the URL of a service, http://HOST:PORT or https://HOST, perhaps with a path. The error says what is
// wrong with it.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no address of a service; write http:// or https://, the host and the port, such as http://127.0.0.1:4881", text)
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("%s: a port is 1 to 65535, not %s", text, port)
		}
	}
	return u, nil
}

// unreached returns an error that says why a request got no answer from an address, and that wraps the cause.
func unreached(err error, address string) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // without the path, which the user has not typed
	}
	var dial *net.OpError
	var timeout net.Error
	var name *net.DNSError
	var unknown x509.UnknownAuthorityError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachedError{err, "nothing listens at " + address}
	case errors.As(err, &name):
		return unreachedError{err, fmt.Sprintf("%s: the name %s cannot be resolved: %s", address, name.Name, name.Err)}
	case errors.As(err, &timeout) && timeout.Timeout():
		return unreachedError{err, "no answer from " + address + " in time"}
	case errors.As(err, &dial) && dial.Op == "dial":
		return unreachedError{err, fmt.Sprintf("%s cannot be reached: %v", address, dial.Err)}
	case errors.As(err, &unknown):
		return fmt.Errorf("%s: %w", address, unknown)
	case errors.As(err, &noTLS) || errors.Is(err, http.ErrSchemeMismatch):
		return unreachedError{err, address + ": the service has no certificate there"}
	}
	return fmt.Errorf("%s: %w", address, err)
}

// unreachedError is an error with its own words, which wraps another error.
type unreachedError struct {
	error
	words string
}

func (e unreachedError) Error() string { return e.words }
func (e unreachedError) Unwrap() error { return e.error }
