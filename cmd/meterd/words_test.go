package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestWords: what is wrong with a command line is said in words that say how to put it right, and where help is.
func TestWords(t *testing.T) {
	for _, c := range []struct{ args, want, try string }{
		{"", "what to do is missing after meterd, one of: dev, init, serve, recover-token, verify, backup, restore, accept-loss, copy, healthcheck, admin, version, help, completion", "meterd"},
		{"admin clock nosuch", "there is no command meterd admin clock nosuch", "meterd admin clock"},
		{"admin selle", `there is no command meterd admin selle, did you mean "seller"?`, "meterd admin"},
		{"admin seller", "what to do is missing after meterd admin seller, one of: create, list, get", "meterd admin seller"},
		{"nosuch", "there is no command meterd nosuch", "meterd"},
		{"--nosuch", "unknown flag --nosuch", "meterd"},
		{"help nosuch", "there is no command meterd nosuch", "meterd"},
		{"help admin nosuch", "there is no command meterd admin nosuch", "meterd admin"},
		{"admin nosuch help", "there is no command meterd admin nosuch", "meterd admin"},
		{"dev help", "unexpected argument help", "meterd dev"},
		{"admin seller create", "missing argument: <account>", "meterd admin seller create"},
		{"admin workload create 444444444444", "missing argument: <platform> <resource-id>", "meterd admin workload create"},
		{"admin seller create 111122223333 --nam x", `unknown flag --nam, did you mean "--name"?`, "meterd admin seller create"},
		{"admin clock advance -1h", "-1… is taken for a flag; write -- before an argument that begins with -, as in: meterd admin clock advance -- -1…", "meterd admin clock advance"},
		{"admin clock set yesterday", `<time>: must be a time such as 2026-11-23T14:00:00Z, not "yesterday"`, "meterd admin clock set"},
		{"admin usage --from 2026-01-01", `--from: must be a time such as 2026-11-23T14:00:00Z, not "2026-01-01"`, "meterd admin usage"},
		{"admin agreement create x y --start 2026-13-01T00:00:00Z", `--start: must be a time such as 2026-11-23T14:00:00Z, not "2026-13-01T00:00:00Z"`, "meterd admin agreement create"},
		{"admin usage --limit x", `--limit: must be a whole number, not "x"`, "meterd admin usage"},
		{"admin product expire-key box 9999999999", `<version>: 9999999999 is too large a number`, "meterd admin product expire-key"},
		{"admin workload create 444444444444 ecs t --duration day", `--duration: must be a duration such as 90s, 15m or 26h, not "day"`, "meterd admin workload create"},
		{"healthcheck --timeout 3", `--timeout: must be a duration such as 90s, 15m or 26h, not "3"`, "meterd healthcheck"},
		{"dev --max-connections many", `--max-connections: must be a whole number, not "many"`, "meterd dev"},
		{"backup x", "missing flags: --data=DIR or --store=URL", "meterd backup"},
	} {
		var out, problems bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), nil, nil, &out, &problems)
		if want := "meterd: " + c.want + "\nTry: " + c.try + " --help\n"; code != 2 || out.String() != "" || problems.String() != want {
			t.Errorf("meterd %s: exit code %d, %s%s, want %s", c.args, code, out.String(), problems.String(), want)
		}
	}
}
