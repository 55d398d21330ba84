//! Files and directories.

mod everywhere;
mod scratch;

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bine_io::fs::{self, DirBuilder, File, OpenOptions, TryLockError, unix};
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::time::{Elapsed, timeout};
use everywhere::{beside, everywhere, on_green_threads};
use scratch::Scratch;
use unix::{DirBuilderExt, DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

/// More than any buffer on the way.
const LARGE: usize = 3 << 20;

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at / 7) as u8).collect()
}

#[test]
fn whole_files_are_written_copied_and_read() {
    everywhere(|| {
        let scratch = Scratch::new();
        let (one, two) = (scratch.path("one"), scratch.path("two"));
        let large = large();
        fs::write(&one, &large).unwrap();
        assert_eq!(fs::read(&one).unwrap(), large);
        assert_eq!(fs::copy(&one, &two).unwrap(), LARGE as u64);
        assert_eq!(fs::metadata(&two).unwrap().len(), LARGE as u64);
        fs::write(&two, "text").unwrap();
        assert_eq!(fs::read_to_string(&two).unwrap(), "text");
        fs::write(&two, [0xff]).unwrap();
        assert_eq!(fs::read_to_string(&two).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::rename(&one, &two).unwrap();
        assert!(!fs::exists(&one).unwrap());
        let error = fs::read(&one).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ENOENT)));
        fs::remove_file(&two).unwrap();
        assert!(!two.exists());
    });
}

#[test]
fn a_file_is_read_and_written_in_all_ways() {
    everywhere(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let mut file = File::create_new(&path).unwrap();
        assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let large = large();
        file.write_all(&large).unwrap();
        write!(file, "{}-{}", 1, String::from("two")).unwrap();
        file.flush().unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.stream_position().unwrap(), LARGE as u64 + 5);
        file.rewind().unwrap();
        let mut read = Vec::new();
        assert_eq!(file.read_to_end(&mut read).unwrap(), LARGE + 5);
        assert_eq!(&read[..LARGE], large);
        assert_eq!(&read[LARGE..], b"1-two");
        file.seek(SeekFrom::End(-5)).unwrap();
        let mut text = String::new();
        (&file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "1-two");
        // Beside the position.
        let mut four = [0; 4];
        file.read_exact_at(&mut four, 700).unwrap();
        assert_eq!(four, large[700..704]);
        assert_eq!(file.write_at(b"!", 700).unwrap(), 1);
        assert_eq!(file.read_at(&mut four[..1], 700).unwrap(), 1);
        assert_eq!(four[0], b'!');
        let error = file.read_exact_at(&mut four, LARGE as u64 + 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        // Vectored, as far as it goes.
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        let bufs = [std::io::IoSlice::new(b"ab"), std::io::IoSlice::new(b"cd")];
        assert_eq!(file.write_vectored(&bufs).unwrap(), 4);
        file.rewind().unwrap();
        let (mut one, mut two) = ([0; 1], [0; 3]);
        let mut bufs = [std::io::IoSliceMut::new(&mut one), std::io::IoSliceMut::new(&mut two)];
        assert_eq!(file.read_vectored(&mut bufs).unwrap(), 4);
        assert_eq!((&one, &two), (b"a", b"bcd"));
    });
}

#[test]
fn a_buffer_makes_small_steps_of_large_ones() {
    everywhere(|| {
        let scratch = Scratch::new();
        let path = scratch.path("lines");
        let mut writer = BufWriter::new(File::create(&path).unwrap());
        for line in 0..5_000 {
            writeln!(writer, "line {line}").unwrap();
        }
        drop(writer);
        let lines = BufReader::new(File::open(&path).unwrap()).lines();
        assert_eq!(lines.map(Result::unwrap).filter(|line| line.ends_with('7')).count(), 500);
    });
}

#[test]
fn options_modes_times_and_links() {
    everywhere(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let mut options = File::options();
        options.append(true).create(true).mode(0o640);
        options.custom_flags(libc::O_NOFOLLOW);
        let mut file = options.clone().open(&path).unwrap();
        file.write_all(b"one").unwrap();
        options.open(&path).unwrap().write_all(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        assert_eq!(file.metadata().unwrap().mode() & 0o640, 0o640);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(when).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), when);
        let neither = OpenOptions::new().open(&path).unwrap_err();
        assert_eq!(neither.kind(), ErrorKind::InvalidInput);

        let link = scratch.path("link");
        unix::symlink("file", &link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("file"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&path).unwrap());
        assert_eq!(options.open(&link).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        fs::hard_link(&path, scratch.path("other")).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 2);
        unix::chown(&path, None, None).unwrap();
        unix::lchown(&link, None, None).unwrap();
        unix::fchown(&file, None, None).unwrap();
    });
}

#[test]
fn directories_are_made_listed_and_removed() {
    everywhere(|| {
        let scratch = Scratch::new();
        let deep = scratch.path("a").join("b").join("c");
        assert_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir_all(&deep).unwrap();
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(deep.join("d")).unwrap();
        builder.recursive(true).create(deep.join("d")).unwrap();
        assert_eq!(fs::metadata(deep.join("d")).unwrap().mode() & 0o777, 0o700);
        // More than is read ahead.
        for number in 0..150 {
            fs::write(deep.join(format!("f{number}")), [0; 3]).unwrap();
        }
        let mut found = 0;
        for entry in fs::read_dir(&deep).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.path(), deep.join(entry.file_name()));
            assert_eq!(entry.ino(), entry.metadata().unwrap().ino());
            match entry.file_type().unwrap().is_dir() {
                true => assert_eq!(entry.file_name(), "d"),
                false => found += entry.metadata().unwrap().len(),
            }
        }
        assert_eq!(found, 450);
        let mut entries = fs::read_dir(deep.join("d")).unwrap();
        assert!(entries.next().is_none() && entries.next().is_none());
        assert_eq!(fs::read_dir(deep.join("f1")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(fs::remove_dir(&deep).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_dir(deep.join("d")).unwrap();
        fs::remove_dir_all(scratch.path("a")).unwrap();
        assert_eq!(fs::read_dir(scratch.root()).unwrap().count(), 0);
    });
}

#[test]
fn conversions_and_clones_are_of_one_open_file() {
    everywhere(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let mut file = File::create(&path).unwrap();
        let mut clone = file.try_clone().unwrap();
        file.write_all(b"one").unwrap();
        clone.write_all(b"two").unwrap();
        let number = file.as_raw_fd();
        assert_eq!(file.as_fd().as_raw_fd(), number);
        assert!(!file.is_terminal());
        assert!(format!("{file:?}").contains(path.to_str().unwrap()));
        let mut file = std::fs::File::from(file);
        file.write_all(b"three").unwrap();
        let file = File::from(OwnedFd::from(File::from(file)));
        // SAFETY: the descriptor was just given up, and is open.
        let mut file = unsafe { File::from_raw_fd(file.into_raw_fd()) };
        assert_eq!(file.as_raw_fd(), number);
        file.write_all(b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwothreefour");
    });
}

#[test]
fn a_lock_excludes_and_its_end_is_awaited() {
    everywhere(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let first = File::create(&path).unwrap();
        first.lock().unwrap();
        let second = File::open(&path).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(matches!(second.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let order = AtomicUsize::new(0);
        beside(
            || {
                assert_eq!(order.fetch_add(1, Ordering::SeqCst), 0);
                first.unlock().unwrap();
            },
            || {
                second.lock().unwrap();
                assert_eq!(order.fetch_add(1, Ordering::SeqCst), 1);
            },
        );
        second.unlock().unwrap();
        first.lock_shared().unwrap();
        second.lock_shared().unwrap();
        assert!(matches!(first.try_lock(), Err(TryLockError::WouldBlock)));
    });
}

/// None of them keeps a thread of the blocking pool from the one who has the lock.
#[test]
fn many_wait_for_one_lock() {
    on_green_threads(|| {
        let scratch = Scratch::new();
        let path = scratch.path("count");
        fs::write(&path, "0").unwrap();
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let lock = File::open(&path).unwrap();
                    lock.lock().unwrap();
                    let count: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
                    fs::write(&path, (count + 1).to_string()).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "20");
    });
}

#[test]
fn a_lock_can_be_given_up_waiting_for() {
    on_green_threads(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let first = File::create(&path).unwrap();
        first.lock().unwrap();
        let second = File::open(&path).unwrap();
        let given_up = timeout(Duration::from_millis(1), || second.lock());
        assert!(matches!(given_up, Err(Elapsed)));
        first.unlock().unwrap();
        second.lock().unwrap();
    });
}

#[test]
fn neighbours_go_on_while_a_file_blocks() {
    on_green_threads(|| {
        let scratch = Scratch::new();
        let path = scratch.path("fifo");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the path ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        // Each side waits for the other one.
        let read = beside(
            || {
                let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
                writer.write_all(b"through").unwrap();
            },
            || {
                let mut text = String::new();
                File::open(&path).unwrap().read_to_string(&mut text).unwrap();
                text
            },
        );
        assert_eq!(read, "through");
    });
}

#[test]
fn a_cancelled_thread_unwinds_before_its_next_operation() {
    on_green_threads(|| {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let writes = path.clone();
        let thread = bine_runtime::spawn(move || {
            thread::shielded(thread::park);
            fs::write(writes, "x")
        });
        thread.cancel().unwrap();
        thread.thread().unpark();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert!(!path.exists());
    });
}

/// As std's, all of them may be sent and shared.
#[test]
fn the_types_go_where_those_of_std_go() {
    fn goes_everywhere<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    goes_everywhere::<File>();
    goes_everywhere::<fs::ReadDir>();
    goes_everywhere::<fs::DirEntry>();
    goes_everywhere::<OpenOptions>();
    goes_everywhere::<DirBuilder>();
}
