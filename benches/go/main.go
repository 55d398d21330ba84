// The workloads of bine-benches on goroutines: the same work as in src/blocking/mod.rs.
//
// It prints one line for each figure, "name value". A channel of one place stands for the
// unbounded ones, of which Go has none: no more than one message is ever under way. Joining is
// a receive from a channel that the goroutine alone sends its result to; where only the end of
// many goroutines matters, a WaitGroup.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	workload = flag.String("workload", "", "what to run")
	service  = flag.String("serve", "", "serve (echo, http, net-http) and print the port")
	workers  = flag.Int("workers", 2, "GOMAXPROCS")
	tasks    = flag.Int("tasks", 0, "how many goroutines")
	rounds   = flag.Int("rounds", 0, "what each of them does so many times")
	millis   = flag.Int("millis", 0, "the shortest sleep")
)

func main() {
	dieWithParent()
	flag.Parse()
	runtime.GOMAXPROCS(*workers)
	if *service != "" {
		serve()
		return
	}
	run, known := map[string]func(){
		"yield":      yields,
		"spawnjoin":  spawnJoin,
		"spawnbatch": spawnBatch,
		"pingpong":   func() { pairs(1, *rounds) },
		"pairs":      func() { pairs(*tasks, *rounds) },
		"mutex":      mutex,
		"mpmc":       mpmc,
		"select":     func() { selects(128) },
		"select-1":   func() { selects(1) },
		"skynet":     skynet,
		"forkjoin":   forkJoin,
		"chantree":   channelTree,
		"park":       park,
		"timers":     timers,
		"hogs":       hogs,
	}[*workload]
	if !known {
		fmt.Fprintln(os.Stderr, "no such workload:", *workload)
		os.Exit(2)
	}
	run()
}

// dieWithParent asks the kernel to kill this process when the one that started it ends.
func dieWithParent() {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
}

func figure(name string, value float64) {
	fmt.Printf("%s %g\n", name, value)
}

func nsEach(start time.Time, operations int) float64 {
	return float64(time.Since(start).Nanoseconds()) / float64(operations)
}

func check(got, want uint64) {
	if got != want {
		panic(fmt.Sprintf("the result is %d, not %d", got, want))
	}
}

func sumBelow(count int) uint64 {
	return uint64(count) * uint64(count-1) / 2
}

func yields() {
	start := time.Now()
	var group sync.WaitGroup
	for range *tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			for range *rounds {
				runtime.Gosched()
			}
		}()
	}
	group.Wait()
	figure("ns", nsEach(start, *tasks**rounds))
}

func spawn(n int) chan uint64 {
	result := make(chan uint64, 1)
	go func() { result <- uint64(n) }()
	return result
}

func spawnJoin() {
	start := time.Now()
	var sum uint64
	for n := range *tasks {
		sum += <-spawn(n)
	}
	check(sum, sumBelow(*tasks))
	figure("ns", nsEach(start, *tasks))
}

func spawnBatch() {
	start := time.Now()
	for range *rounds {
		results := make([]chan uint64, 0, *tasks)
		for n := range *tasks {
			results = append(results, spawn(n))
		}
		var sum uint64
		for _, result := range results {
			sum += <-result
		}
		check(sum, sumBelow(*tasks))
	}
	figure("ns", nsEach(start, *tasks**rounds))
}

func pairs(count, rounds int) {
	start := time.Now()
	var group sync.WaitGroup
	var sum atomic.Uint64
	for range count {
		there, back := make(chan uint64, 1), make(chan uint64, 1)
		group.Add(2)
		go func() {
			defer group.Done()
			for range rounds {
				back <- <-there + 1
			}
		}()
		go func() {
			defer group.Done()
			number := uint64(0)
			for range rounds {
				there <- number
				number = <-back
			}
			sum.Add(number)
		}()
	}
	group.Wait()
	check(sum.Load(), uint64(count*rounds))
	figure("ns", nsEach(start, count*rounds))
}

func mutex() {
	start := time.Now()
	var group sync.WaitGroup
	var lock sync.Mutex
	var number uint64
	for range *tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			for range *rounds {
				lock.Lock()
				number++
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	check(number, uint64(*tasks**rounds))
	figure("ns", nsEach(start, *tasks**rounds))
}

func mpmc() {
	start := time.Now()
	var producers, consumers sync.WaitGroup
	var sum atomic.Uint64
	messages := make(chan uint64, 128)
	for range *tasks {
		consumers.Add(1)
		go func() {
			defer consumers.Done()
			own := uint64(0)
			for number := range messages {
				own += number
			}
			sum.Add(own)
		}()
	}
	for range *tasks {
		producers.Add(1)
		go func() {
			defer producers.Done()
			for number := range *rounds {
				messages <- uint64(number)
			}
		}()
	}
	producers.Wait()
	close(messages)
	consumers.Wait()
	check(sum.Load(), uint64(*tasks)*sumBelow(*rounds))
	figure("ns", nsEach(start, *tasks**rounds))
}

// selects has eight goroutines send, each on a channel of its own, and one receive from all.
func selects(places int) {
	start := time.Now()
	var channels [8]chan uint64
	for n := range channels {
		channel := make(chan uint64, places)
		channels[n] = channel
		go func() {
			for number := range *rounds {
				channel <- uint64(number)
			}
		}()
	}
	messages := len(channels) * *rounds
	result := make(chan uint64, 1)
	go func() { result <- selectSum(channels, messages) }()
	check(<-result, uint64(len(channels))*sumBelow(*rounds))
	figure("ns", nsEach(start, messages))
}

func selectSum(channels [8]chan uint64, messages int) uint64 {
	var sum uint64
	for range messages {
		var number uint64
		select {
		case number = <-channels[0]:
		case number = <-channels[1]:
		case number = <-channels[2]:
		case number = <-channels[3]:
		case number = <-channels[4]:
		case number = <-channels[5]:
		case number = <-channels[6]:
		case number = <-channels[7]:
		}
		sum += number
	}
	return sum
}

func skynet() {
	start := time.Now()
	result := make(chan uint64, 1)
	subtree(result, 0, *tasks)
	check(<-result, sumBelow(*tasks))
	figure("ms", time.Since(start).Seconds()*1e3)
}

// subtree gives its parent the sum of the leaves from first on. Ten children share a channel,
// which is the least that Go needs to join them.
func subtree(parent chan<- uint64, first, leaves int) {
	if leaves == 1 {
		parent <- uint64(first)
		return
	}
	results := make(chan uint64, 10)
	leaves /= 10
	for n := range 10 {
		go subtree(results, first+n*leaves, leaves)
	}
	var sum uint64
	for range 10 {
		sum += <-results
	}
	parent <- sum
}

func forkJoin() {
	start := time.Now()
	check(halves(0, *tasks), uint64(*tasks))
	figure("ms", time.Since(start).Seconds()*1e3)
}

// halves counts the leaves from first on, each of which computes; one half is spawned.
func halves(first, leaves int) uint64 {
	if leaves == 1 {
		return burn(uint64(first))
	}
	half := leaves / 2
	left := make(chan uint64, 1)
	go func() { left <- halves(first, half) }()
	return halves(first+half, leaves-half) + <-left
}

// burn is that of src/workload.rs.
func burn(seed uint64) uint64 {
	number := seed + 1
	for range *rounds {
		number ^= number << 13
		number ^= number >> 7
		number ^= number << 17
	}
	if number == 0 {
		panic("a xorshift generator never comes to 0")
	}
	return 1
}

func channelTree() {
	start := time.Now()
	level := make([]chan uint64, 0, *tasks)
	for range *tasks {
		channel := make(chan uint64, 16)
		go func() {
			for number := range *rounds {
				channel <- uint64(number)
			}
		}()
		level = append(level, channel)
	}
	for len(level) > 1 {
		var above []chan uint64
		for n := 0; n < len(level); n += 2 {
			left, right, channel := level[n], level[n+1], make(chan uint64, 16)
			go func() {
				for range *rounds {
					channel <- <-left + <-right
				}
			}()
			above = append(above, channel)
		}
		level = above
	}
	for number := range *rounds {
		check(<-level[0], uint64(number**tasks))
	}
	figure("ns", nsEach(start, (2**tasks-1)**rounds))
}

func park() {
	before := memory()
	start := time.Now()
	var arrived atomic.Int64
	var group sync.WaitGroup
	released := make(chan struct{})
	for range *tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			arrived.Add(1)
			<-released
		}()
	}
	for arrived.Load() < int64(*tasks) {
		time.Sleep(500 * time.Microsecond)
	}
	each := nsEach(start, *tasks)
	bytes := float64(memory()-before) / float64(*tasks)
	close(released)
	group.Wait()
	figure("ns", each)
	figure("bytes", bytes)
}

func timers() {
	before := cpuTime()
	var sum, worst atomic.Int64
	var group sync.WaitGroup
	for n := range *tasks {
		group.Add(1)
		length := sleepLength(n)
		go func() {
			defer group.Done()
			due := time.Now().Add(length)
			time.Sleep(length)
			late := time.Since(due).Microseconds()
			sum.Add(late)
			for known := worst.Load(); late > known; known = worst.Load() {
				if worst.CompareAndSwap(known, late) {
					break
				}
			}
		}()
	}
	group.Wait()
	figure("cpu_ns", float64((cpuTime()-before).Nanoseconds())/float64(*tasks))
	figure("late_mean_ms", float64(sum.Load())/float64(*tasks)/1e3)
	figure("late_max_ms", float64(worst.Load())/1e3)
}

func hogs() {
	var lock sync.Mutex
	var all []int64
	var group sync.WaitGroup
	hold := time.Duration(*millis) * time.Millisecond
	for hog := range runtime.GOMAXPROCS(0) {
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(hold / 2)
			if hog > 0 {
				// A call of the system, which the scheduler knows to block.
				length := syscall.NsecToTimespec(hold.Nanoseconds())
				syscall.Nanosleep(&length, nil)
				return
			}
			for start := time.Now(); time.Since(start) < hold; {
			}
		}()
	}
	for range *tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			late := make([]int64, 0, *rounds)
			for range *rounds {
				due := time.Now().Add(time.Millisecond)
				time.Sleep(time.Millisecond)
				late = append(late, time.Since(due).Microseconds())
			}
			lock.Lock()
			defer lock.Unlock()
			all = append(all, late...)
		}()
	}
	group.Wait()
	slices.Sort(all)
	at := func(share float64) float64 { return float64(all[int(float64(len(all)-1)*share)]) }
	figure("late_max_ms", at(1)/1e3)
	figure("late_p50_us", at(0.5))
	figure("late_p99_us", at(0.99))
	figure("late_p999_us", at(0.999))
}

// sleepLength is that of src/lateness.rs.
func sleepLength(n int) time.Duration {
	scattered := uint32(n) * 2654435769
	shortest := time.Duration(*millis) * time.Millisecond
	return shortest + time.Duration(float64(2*shortest)*float64(scattered)/float64(^uint32(0)))
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// memory is VmRSS and VmPTE of this process, in bytes.
func memory() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	total := 0
	for line := range strings.SplitSeq(string(status), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "VmRSS:" || fields[0] == "VmPTE:") {
			kibibytes, err := strconv.Atoi(fields[1])
			if err != nil {
				panic(err)
			}
			total += kibibytes << 10
		}
	}
	return total
}

// serve listens and serves for ever. Go sets TCP_NODELAY by default.
func serve() {
	serve, known := map[string]func(net.Listener){
		"echo":     serveEcho,
		"http":     serveHTTP,
		"net-http": serveNetHTTP,
	}[*service]
	if !known {
		fmt.Fprintln(os.Stderr, "no such service:", *service)
		os.Exit(2)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	serve(listener)
}

// serveEcho has a goroutine with a buffer of 16 KiB for each connection.
func serveEcho(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go echo(connection)
	}
}

func echo(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 16<<10)
	for {
		length, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err := connection.Write(buffer[:length]); err != nil {
			return
		}
	}
}
