package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// patience is how long a server may take for what it does by itself.
const patience = time.Minute

// serverLog keeps what a server says in a file, and closes said when it has said that it is ready.
type serverLog struct {
	file  *os.File
	ready string
	said  chan struct{}
	begun []byte // of what it says, until it is ready
}

func (l *serverLog) Write(p []byte) (int, error) {
	if l.ready != "" {
		if l.begun = append(l.begun, p...); bytes.Contains(l.begun, []byte(l.ready)) {
			close(l.said)
			l.ready, l.begun = "", nil
		}
	}
	return l.file.Write(p)
}

// launch starts a server and waits until it has said that it is ready. exited is closed when it has ended, and all that
// it started, for they have its log too.
func launch(c *exec.Cmd, file, ready string) (exited chan struct{}, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	log := &serverLog{file: f, ready: ready, said: make(chan struct{})}
	c.Stdout, c.Stderr = log, log
	exited = make(chan struct{})
	started := make(chan error)
	go func() {
		defer f.Close()
		defer close(exited)
		// Pdeathsig is sent when the thread that started the process ends, so this one has to last.
		runtime.LockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			c.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	why := "has ended"
	select {
	case <-log.said:
		return exited, nil
	case <-exited:
	case <-time.After(patience):
		why = fmt.Sprintf("is not ready after %v", patience)
		_ = c.Process.Kill() // it may have ended
		<-exited
	}
	said, _ := os.ReadFile(file)
	return nil, fmt.Errorf("%s %s:\n%s", c.Path, why, said[max(0, len(said)-4000):])
}
