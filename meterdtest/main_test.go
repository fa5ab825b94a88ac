package meterdtest_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
)

// TestMain has all servers keep their ledgers in PostgreSQL if METERD_TEST_STORE says so.
func TestMain(m *testing.M) {
	if os.Getenv("METERD_TEST_STORE") == "postgres" {
		url, err := pgtest.Shared()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Setenv("METERD_TEST_POSTGRES", url)
	}
	os.Exit(pgtest.Main(m))
}
