//! `xtask-bindgen MODULE.wasm FOLDER`: bindings for the web in `FOLDER/web`, for Node in `FOLDER/node`.

use std::path::Path;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, folder] = arguments.as_slice() else {
        let _ =
            std::io::Write::write_all(&mut std::io::stderr(), b"usage: xtask-bindgen MODULE.wasm FOLDER\n");
        return ExitCode::from(2);
    };
    match write(Path::new(module), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ =
                std::io::Write::write_all(&mut std::io::stderr(), format!("error: {reason}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn write(module: &Path, folder: &Path) -> Result<(), String> {
    for (name, is_web) in [("web", true), ("node", false)] {
        let mut bindgen = Bindgen::new();
        bindgen.input_path(module).typescript(true).remove_name_section(true).remove_producers_section(true);
        let chosen = if is_web { bindgen.web(true) } else { bindgen.nodejs_module(true) };
        chosen
            .map_err(|error| format!("{error:#}"))?
            .generate(folder.join(name))
            .map_err(|error| format!("{error:#}"))?;
    }
    Ok(())
}
