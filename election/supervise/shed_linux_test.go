package supervise

import (
	"os"
	"slices"
	"testing"
)

func TestOnlyUnchangedFilesAreDropped(t *testing.T) {
	smaps := `00400000-02586000 r-xp 00001000 fe:00 1 /usr/bin/understudy
Rss:               20532 kB
Anonymous:             0 kB
02586000-04f46000 r--p 02186000 fe:00 1 /usr/bin/understudy
Anonymous:             0 kB
04f46000-05014000 rw-p 04b46000 fe:00 1 /usr/bin/understudy
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00001000 fe:00 2 /usr/lib/relocated.so
Anonymous:             4 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000004000-7f0000005000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []span{{0x400000, 0x2586000}, {0x2586000, 0x4f46000}}
	if got := cleanFiles([]byte(smaps)); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestShed(t *testing.T) {
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(cleanFiles(maps)) == 0 {
		t.Error("the executable is not found")
	}
	shed() // and the program goes on
}
