package ledger

import (
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// TestFollowJump: a database's clock is believed as far as the one that nobody sets agrees, whatever the node's own does.
func TestFollowJump(t *testing.T) {
	const month, minute = 30 * 24 * time.Hour, time.Minute
	wall, steady := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), time.Duration(0)
	database := wall.Add(2 * minute)
	c := clock{wall: func() time.Time { return wall }, steady: func() time.Duration { return steady }}
	if err := c.restore(nil, 0); err != nil {
		t.Fatal(err)
	}
	c.begin(database)
	shown := database // what the clock is to show
	was := false      // jumped, the step before
	for _, step := range []struct {
		what           string
		wall, database time.Duration // by which they are set
		jumped         bool
	}{
		{"at first", 0, 0, false},
		{"the database's clock gains a little", 0, 4 * minute, false},
		{"the database's clock jumps", 0, month, true},
		{"and stays there", 0, 0, true},
		{"it is right again", 0, -month, false},
		{"the node's clock jumps", month, 0, false},
		{"and back, behind the database's", -month - time.Hour, 0, false},
		{"the database's clock jumps again", 0, time.Hour, true},
		{"it is right again", 0, -time.Hour, false},
		{"it loses an hour", 0, -time.Hour, false},
		{"it is right again", 0, time.Hour, false},
	} {
		wall, database, steady = wall.Add(minute+step.wall), database.Add(minute+step.database), steady+minute
		if shown = shown.Add(minute); step.database.Abs() < 5*minute {
			shown = shown.Add(step.database)
		}
		c.follow(database)
		if err := c.jumped(); (err != nil) != step.jumped {
			t.Errorf("%s: %v", step.what, err)
		}
		want := metering.InstantOf(shown)
		if step.database == -time.Hour && !was { // it does not run back
			want = want.Add(-minute)
		}
		if got := c.now(); got != want {
			t.Errorf("%s: the clock shows %v, want %v", step.what, got, want)
		}
		was = step.jumped
	}
}
