package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/sandbox"
)

// TestNobodyReadsTheLog: neither that the reader of the standard error has gone, nor that he reads nothing, keeps a call
// from being answered or the process from ending when it is told to.
func TestNobodyReadsTheLog(t *testing.T) {
	for name, gone := range map[string]bool{"he has gone": true, "he reads nothing": false} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			file := filepath.Join(t.TempDir(), "sandbox.json")
			cmd := exec.CommandContext(t.Context(), "meterd", "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log-level", "debug", "--describe", file)
			cmd.Stderr = write
			said, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			write.Close()
			if gone {
				read.Close()
			}
			var out strings.Builder
			for b := make([]byte, 1024); !strings.Contains(out.String(), "Ctrl-C"); {
				n, err := said.Read(b)
				if out.Write(b[:n]); err != nil {
					t.Fatalf("%v after %q", err, out.String())
				}
			}
			var d sandbox.Description
			text, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(text, &d)
			}
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Timeout: patience}
			defer client.CloseIdleConnections()
			for n := range 1500 { // each is a line of 200 bytes; a pipe holds 64 KB
				answer, err := client.Post(d.Endpoint, "application/x-amz-json-1.1", strings.NewReader("{}"))
				if err != nil {
					t.Fatalf("call %d: %v", n, err)
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

// TestLineWriter: lines come in order, and how many were lost is said.
func TestLineWriter(t *testing.T) {
	read, slow := io.Pipe()
	w := newLineWriter(slow)
	w.reportLost(func(n int) { fmt.Fprintf(w, "lost %d\n", n) })
	long := bytes.Repeat([]byte{'x'}, logBytes/4-1)
	for n := range 7 {
		fmt.Fprintf(w, "%d%s\n", n, long[1:])
	}
	said := make(chan string)
	go func() {
		all, _ := io.ReadAll(read)
		said <- strings.ReplaceAll(string(all), string(long[1:]), "")
	}()
	w.close(patience)
	slow.Close()
	if got := <-said; got != "0\n1\n2\n3\nlost 3\n" {
		t.Errorf("%q is written", got)
	}
}
