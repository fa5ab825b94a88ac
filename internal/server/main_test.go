package server_test

import (
	"os"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
