# bash completion for restok. Made by completions/build.py: change that, and run it.
# bash-completion finds this file in share/bash-completion/completions; otherwise: source restok.bash

_restok_values() {  # what values of the kind $1 are: words, and -f for files or -d for folders
    case $1 in
        all)
            words=(
                all
            )
            ;;
        auto)
            words=(
                auto
            )
            ;;
        'auto|float32|bf16')
            words=(
                auto float32 bf16
            )
            ;;
        'auto|on|off')
            words=(
                auto on off
            )
            ;;
        'class names')
            words=(
                imagenet
            )
            paths=-f
            ;;
        classes)
            words=(
                all random face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy
                face-unwell face-hat face-glasses face-concerned face-negative face-costume cat-face monkey-face heart
                emotion hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop
                body-parts person person-gesture person-role person-fantasy person-activity person-sport person-resting
                family person-symbol animal-mammal animal-bird animal-amphibian animal-reptile animal-marine animal-bug
                plant-flower plant-other food-fruit food-vegetable food-prepared food-asian food-sweet drink dishware
                place-map place-geographic place-building place-religious place-other transport-ground transport-water
                transport-air hotel time 'sky & weather' event award-medal sport game 'arts & crafts' clothing sound
                music musical-instrument phone computer 'light & video' book-paper money mail writing office lock tool
                science medical household other-object transport-sign warning arrow religion zodiac av-symbol gender
                math punctuation currency other-symbol keycap alphanum geometric flag country-flag subdivision-flag
                tench goldfish 'great white shark' 'tiger shark' hammerhead 'electric ray' stingray cock hen ostrich
                brambling goldfinch 'house finch' junco 'indigo bunting' robin bulbul jay magpie chickadee 'water ouzel'
                kite 'bald eagle' vulture 'great grey owl' 'European fire salamander' 'common newt' eft
                'spotted salamander' axolotl bullfrog 'tree frog' 'tailed frog' loggerhead 'leatherback turtle'
                'mud turtle' terrapin 'box turtle' 'banded gecko' 'common iguana' 'American chameleon' whiptail agama
                'frilled lizard' 'alligator lizard' 'Gila monster' 'green lizard' 'African chameleon' 'Komodo dragon'
                'African crocodile' 'American alligator' triceratops 'thunder snake' 'ringneck snake' 'hognose snake'
                'green snake' 'king snake' 'garter snake' 'water snake' 'vine snake' 'night snake' 'boa constrictor'
                'rock python' 'Indian cobra' 'green mamba' 'sea snake' 'horned viper' diamondback sidewinder trilobite
                harvestman scorpion 'black and gold garden spider' 'barn spider' 'garden spider' 'black widow' tarantula
                'wolf spider' tick centipede 'black grouse' ptarmigan 'ruffed grouse' 'prairie chicken' peacock quail
                partridge 'African grey' macaw 'sulphur-crested cockatoo' lorikeet coucal 'bee eater' hornbill
                hummingbird jacamar toucan drake 'red-breasted merganser' goose 'black swan' tusker echidna platypus
                wallaby koala wombat jellyfish 'sea anemone' 'brain coral' flatworm nematode conch snail slug 'sea slug'
                chiton 'chambered nautilus' 'Dungeness crab' 'rock crab' 'fiddler crab' 'king crab' 'American lobster'
                'spiny lobster' crayfish 'hermit crab' isopod 'white stork' 'black stork' spoonbill flamingo
                'little blue heron' 'American egret' bittern 'crane (bird)' limpkin 'European gallinule' 'American coot'
                bustard 'ruddy turnstone' 'red-backed sandpiper' redshank dowitcher oystercatcher pelican 'king penguin'
                albatross 'grey whale' 'killer whale' dugong 'sea lion' Chihuahua 'Japanese spaniel' 'Maltese dog'
                Pekinese Shih-Tzu 'Blenheim spaniel' papillon 'toy terrier' 'Rhodesian ridgeback' 'Afghan hound' basset
                beagle bloodhound bluetick 'black-and-tan coonhound' 'Walker hound' 'English foxhound' redbone borzoi
                'Irish wolfhound' 'Italian greyhound' whippet 'Ibizan hound' 'Norwegian elkhound' otterhound Saluki
                'Scottish deerhound' Weimaraner 'Staffordshire bullterrier' 'American Staffordshire terrier'
                'Bedlington terrier' 'Border terrier' 'Kerry blue terrier' 'Irish terrier' 'Norfolk terrier'
                'Norwich terrier' 'Yorkshire terrier' 'wire-haired fox terrier' 'Lakeland terrier' 'Sealyham terrier'
                Airedale cairn 'Australian terrier' 'Dandie Dinmont' 'Boston bull' 'miniature schnauzer'
                'giant schnauzer' 'standard schnauzer' 'Scotch terrier' 'Tibetan terrier' 'silky terrier'
                'soft-coated wheaten terrier' 'West Highland white terrier' Lhasa 'flat-coated retriever'
                'curly-coated retriever' 'golden retriever' 'Labrador retriever' 'Chesapeake Bay retriever'
                'German short-haired pointer' vizsla 'English setter' 'Irish setter' 'Gordon setter' 'Brittany spaniel'
                clumber 'English springer' 'Welsh springer spaniel' 'cocker spaniel' 'Sussex spaniel'
                'Irish water spaniel' kuvasz schipperke groenendael malinois briard kelpie komondor
                'Old English sheepdog' 'Shetland sheepdog' collie 'Border collie' 'Bouvier des Flandres' Rottweiler
                'German shepherd' Doberman 'miniature pinscher' 'Greater Swiss Mountain dog' 'Bernese mountain dog'
                Appenzeller EntleBucher boxer 'bull mastiff' 'Tibetan mastiff' 'French bulldog' 'Great Dane'
                'Saint Bernard' 'Eskimo dog' malamute 'Siberian husky' dalmatian affenpinscher basenji pug Leonberg
                Newfoundland 'Great Pyrenees' Samoyed Pomeranian chow keeshond 'Brabancon griffon' Pembroke Cardigan
                'toy poodle' 'miniature poodle' 'standard poodle' 'Mexican hairless' 'timber wolf' 'white wolf'
                'red wolf' coyote dingo dhole 'African hunting dog' hyena 'red fox' 'kit fox' 'Arctic fox' 'grey fox'
                tabby 'tiger cat' 'Persian cat' 'Siamese cat' 'Egyptian cat' cougar lynx leopard 'snow leopard' jaguar
                lion tiger cheetah 'brown bear' 'American black bear' 'ice bear' 'sloth bear' mongoose meerkat
                'tiger beetle' ladybug 'ground beetle' 'long-horned beetle' 'leaf beetle' 'dung beetle'
                'rhinoceros beetle' weevil fly bee ant grasshopper cricket 'walking stick' cockroach mantis cicada
                leafhopper lacewing dragonfly damselfly admiral ringlet monarch 'cabbage butterfly' 'sulphur butterfly'
                lycaenid starfish 'sea urchin' 'sea cucumber' 'wood rabbit' hare Angora hamster porcupine 'fox squirrel'
                marmot beaver 'guinea pig' sorrel zebra hog 'wild boar' warthog hippopotamus ox 'water buffalo' bison
                ram bighorn ibex hartebeest impala gazelle 'Arabian camel' llama weasel mink polecat
                'black-footed ferret' otter skunk badger armadillo 'three-toed sloth' orangutan gorilla chimpanzee
                gibbon siamang guenon patas baboon macaque langur colobus 'proboscis monkey' marmoset capuchin
                'howler monkey' titi 'spider monkey' 'squirrel monkey' 'Madagascar cat' indri 'Indian elephant'
                'African elephant' 'lesser panda' 'giant panda' barracouta eel coho 'rock beauty' 'anemone fish'
                sturgeon gar lionfish puffer abacus abaya 'academic gown' accordion 'acoustic guitar' 'aircraft carrier'
                airliner airship altar ambulance amphibian 'analog clock' apiary apron ashcan 'assault rifle' backpack
                bakery 'balance beam' balloon ballpoint 'Band Aid' banjo bannister barbell 'barber chair' barbershop
                barn barometer barrel barrow baseball basketball bassinet bassoon 'bathing cap' 'bath towel' bathtub
                'beach wagon' beacon beaker bearskin 'beer bottle' 'beer glass' 'bell cote' bib bicycle-built-for-two
                bikini binder binoculars birdhouse boathouse bobsled 'bolo tie' bonnet bookcase bookshop bottlecap bow
                'bow tie' brass brassiere breakwater breastplate broom bucket buckle 'bulletproof vest' 'bullet train'
                'butcher shop' cab caldron candle cannon canoe 'can opener' cardigan 'car mirror' carousel
                'carpenter'"'"'s kit' carton 'car wheel' 'cash machine' cassette 'cassette player' castle catamaran
                'CD player' cello 'cellular telephone' chain 'chainlink fence' 'chain mail' 'chain saw' chest chiffonier
                chime 'china cabinet' 'Christmas stocking' church cinema cleaver 'cliff dwelling' cloak clog
                'cocktail shaker' 'coffee mug' coffeepot coil 'combination lock' 'computer keyboard' confectionery
                'container ship' convertible corkscrew cornet 'cowboy boot' 'cowboy hat' cradle 'crane (machine)'
                'crash helmet' crate crib 'Crock Pot' 'croquet ball' crutch cuirass dam desk 'desktop computer'
                'dial telephone' diaper 'digital clock' 'digital watch' 'dining table' dishrag dishwasher 'disk brake'
                dock dogsled dome doormat 'drilling platform' drum drumstick dumbbell 'Dutch oven' 'electric fan'
                'electric guitar' 'electric locomotive' 'entertainment center' envelope 'espresso maker' 'face powder'
                'feather boa' file fireboat 'fire engine' 'fire screen' flagpole flute 'folding chair' 'football helmet'
                forklift fountain 'fountain pen' four-poster 'freight car' 'French horn' 'frying pan' 'fur coat'
                'garbage truck' gasmask 'gas pump' goblet go-kart 'golf ball' golfcart gondola gong gown 'grand piano'
                greenhouse grille 'grocery store' guillotine 'hair slide' 'hair spray' 'half track' hammer hamper
                'hand blower' 'hand-held computer' handkerchief 'hard disc' harmonica harp harvester hatchet holster
                'home theater' honeycomb hook hoopskirt 'horizontal bar' 'horse cart' hourglass iPod iron
                'jack-o'"'"'-lantern' jean jeep jersey 'jigsaw puzzle' jinrikisha joystick kimono 'knee pad' knot
                'lab coat' ladle lampshade laptop 'lawn mower' 'lens cap' 'letter opener' library lifeboat lighter
                limousine liner lipstick Loafer lotion loudspeaker loupe lumbermill 'magnetic compass' mailbag mailbox
                maillot 'maillot, tank suit' 'manhole cover' maraca marimba mask matchstick maypole maze 'measuring cup'
                'medicine chest' megalith microphone microwave 'military uniform' 'milk can' minibus miniskirt minivan
                missile mitten 'mixing bowl' 'mobile home' 'Model T' modem monastery monitor moped mortar mortarboard
                mosque 'mosquito net' 'motor scooter' 'mountain bike' 'mountain tent' mouse mousetrap 'moving van'
                muzzle nail 'neck brace' necklace nipple notebook obelisk oboe ocarina odometer 'oil filter' organ
                oscilloscope overskirt oxcart 'oxygen mask' packet paddle paddlewheel padlock paintbrush pajama palace
                panpipe 'paper towel' parachute 'parallel bars' 'park bench' 'parking meter' 'passenger car' patio
                pay-phone pedestal 'pencil box' 'pencil sharpener' perfume 'Petri dish' photocopier pick pickelhaube
                'picket fence' pickup pier 'piggy bank' 'pill bottle' pillow 'ping-pong ball' pinwheel pirate pitcher
                plane planetarium 'plastic bag' 'plate rack' plow plunger 'Polaroid camera' pole 'police van' poncho
                'pool table' 'pop bottle' pot 'potter'"'"'s wheel' 'power drill' 'prayer rug' printer prison projectile
                projector puck 'punching bag' purse quill quilt racer racket radiator radio 'radio telescope'
                'rain barrel' 'recreational vehicle' reel 'reflex camera' refrigerator 'remote control' restaurant
                revolver rifle 'rocking chair' rotisserie 'rubber eraser' 'rugby ball' rule 'running shoe' safe
                'safety pin' saltshaker sandal sarong sax scabbard scale 'school bus' schooner scoreboard screen screw
                screwdriver 'seat belt' 'sewing machine' shield 'shoe shop' shoji 'shopping basket' 'shopping cart'
                shovel 'shower cap' 'shower curtain' ski 'ski mask' 'sleeping bag' 'slide rule' 'sliding door' slot
                snorkel snowmobile snowplow 'soap dispenser' 'soccer ball' sock 'solar dish' sombrero 'soup bowl'
                'space bar' 'space heater' 'space shuttle' spatula speedboat 'spider web' spindle 'sports car' spotlight
                stage 'steam locomotive' 'steel arch bridge' 'steel drum' stethoscope stole 'stone wall' stopwatch stove
                strainer streetcar stretcher 'studio couch' stupa submarine suit sundial sunglass sunglasses sunscreen
                'suspension bridge' swab sweatshirt 'swimming trunks' swing switch syringe 'table lamp' tank
                'tape player' teapot teddy television 'tennis ball' thatch 'theater curtain' thimble thresher throne
                'tile roof' toaster 'tobacco shop' 'toilet seat' torch 'totem pole' 'tow truck' toyshop tractor
                'trailer truck' tray 'trench coat' tricycle trimaran tripod 'triumphal arch' trolleybus trombone tub
                turnstile 'typewriter keyboard' umbrella unicycle upright vacuum vase vault velvet 'vending machine'
                vestment viaduct violin volleyball 'waffle iron' 'wall clock' wallet wardrobe warplane washbasin washer
                'water bottle' 'water jug' 'water tower' 'whiskey jug' whistle wig 'window screen' 'window shade'
                'Windsor tie' 'wine bottle' wing wok 'wooden spoon' wool 'worm fence' wreck yawl yurt 'web site'
                'comic book' 'crossword puzzle' 'street sign' 'traffic light' 'book jacket' menu plate guacamole
                consomme 'hot pot' trifle 'ice cream' 'ice lolly' 'French loaf' bagel pretzel cheeseburger hotdog
                'mashed potato' 'head cabbage' broccoli cauliflower zucchini 'spaghetti squash' 'acorn squash'
                'butternut squash' cucumber artichoke 'bell pepper' cardoon mushroom 'Granny Smith' strawberry orange
                lemon fig pineapple banana jackfruit 'custard apple' pomegranate hay carbonara 'chocolate sauce' dough
                'meat loaf' pizza potpie burrito 'red wine' espresso cup eggnog alp bubble cliff 'coral reef' geyser
                lakeside promontory sandbar seashore valley volcano ballplayer groom 'scuba diver' rapeseed daisy
                'yellow lady'"'"'s slipper' corn acorn hip buckeye 'coral fungus' agaric gyromitra stinkhorn earthstar
                hen-of-the-woods bolete ear 'toilet tissue'
            )
            ;;
        configs)
            words=(
                ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl restok-b-128 restok-l-128 restok-l-128-1-stage
                restok-l-128-2-stages restok-l-128-3-stages restok-l-128-image-residuals restok-l-128-latent-residuals
                restok-l-128-no-alignment restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released
                restok-s-128 sample sample-gpu tiny
            )
            paths=-f
            ;;
        'constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed')
            words=(
                constant linear linear-reversed linear-constant triangular rectangular step cosine cosine-reversed
            )
            ;;
        data)
            words=(
                sample
            )
            paths=-d
            ;;
        devices)
            words=(
                auto cpu cuda mps
            )
            ;;
        files)
            paths=-f
            ;;
        'float32|bf16')
            words=(
                float32 bf16
            )
            ;;
        folders)
            paths=-d
            ;;
        'h100|h200|a100|l40s|4090|3090|mi300x|cpu')
            words=(
                h100 h200 a100 l40s 4090 3090 mi300x cpu
            )
            ;;
        'har presets')
            words=(
                ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl sample sample-gpu tiny
            )
            ;;
        'har settings')
            words=(
                model.codebook_size= model.num_codes= model.num_sequential_codes= model.num_classes= model.width=
                model.num_layers= model.num_heads= model.class_dropout= model.token_dropout= model.residual_dropout=
                model.ffn_dropout= data.crop= data.random_zoom= data.random_crop_area= data.random_flip=
                data.num_workers= data.broken_limit= data.max_member_bytes= optimizer.schedule= optimizer.learning_rate=
                optimizer.final_learning_rate= optimizer.warmup_steps= optimizer.decay_steps= optimizer.beta1=
                optimizer.beta2= optimizer.weight_decay= optimizer.max_grad_norm= schedule.max_steps=
                schedule.batch_size= schedule.micro_batch_size= schedule.seed= schedule.ema_decay= schedule.log_every=
                schedule.preview_every= schedule.validate_every= schedule.validation_images= schedule.save_every=
                schedule.keep_checkpoints= schedule.keep_every= schedule.early_stop= compute.precision= compute.compile=
                compute.memory= compute.deterministic= compute.sharding= health.max_skipped_steps=
                health.warn_data_wait=
            )
            ;;
        limits)
            words=(
                gfid= rfid= fid= fid-inf= pfid= sfid= is= precision= recall= kid= density= coverage= mind= cmmd= psnr=
                ssim= ms-ssim= lpips= mse= codebook_usage= codebook_entropy= codebook_perplexity= nll=
            )
            ;;
        metric)
            words=(
                gfid rfid fid fid-inf pfid sfid is precision recall kid density coverage mind cmmd psnr ssim ms-ssim
                lpips mse codebook nll all
            )
            ;;
        'metric of sets')
            words=(
                gfid fid fid-inf sfid is precision recall kid density coverage mind cmmd
            )
            ;;
        models)
            words=(
                sample hf:xushu-me/restok_l_128.r256_in1k hf:xushu-me/llamagen_l_c2i_restok_l_128.r256_in1k
            )
            paths=-d
            ;;
        networks)
            words=(
                inception dinov2 clip vgg16 timm: random
            )
            ;;
        'options to try')
            words=(
                cfg_scale= cfg_schedule= cfg_start= cfg_stop= cfg_peak= temperature= top_k= top_p=
            )
            ;;
        parts)
            words=(
                encode decode generate ar train loading inception
            )
            ;;
        pictures)
            words=(
                sample
            )
            paths=-f
            ;;
        presets)
            words=(
                restok-b-128 restok-l-128 restok-l-128-1-stage restok-l-128-2-stages restok-l-128-3-stages
                restok-l-128-image-residuals restok-l-128-latent-residuals restok-l-128-no-alignment
                restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released restok-s-128 sample
                sample-gpu tiny ar-l har-1b har-3b har-b har-l har-xl har-xxl har-xxxl
            )
            ;;
        'quick|full')
            words=(
                quick full
            )
            ;;
        'ten-crop|flip|centre')
            words=(
                ten-crop flip centre
            )
            ;;
        'tokenizer and har settings')
            words=(
                model.image_height= model.image_width= model.patch_size= model.pixel_encoder= model.cnn_channels=
                model.cnn_multipliers= model.cnn_norm_groups= model.cnn_shortcut= model.feature_channels=
                model.encoder_width= model.encoder_layers= model.decoder_width= model.decoder_layers= model.head_width=
                model.num_stages= model.merge_factor= model.merge= model.residual_image_tokens= model.num_latent_tokens=
                model.latent_init= model.residual_latent_tokens= model.latent_layout= model.head_per_level=
                model.image_queries= model.codebook_size= model.codebook_dim= model.normalize_codes=
                model.encoder_alignment_dim= model.decoder_alignment_dim= data.crop= data.random_zoom=
                data.random_crop_area= data.random_flip= data.num_workers= data.broken_limit= data.max_member_bytes=
                optimizer.schedule= optimizer.learning_rate= optimizer.final_learning_rate= optimizer.warmup_steps=
                optimizer.decay_steps= optimizer.beta1= optimizer.beta2= optimizer.weight_decay=
                optimizer.max_grad_norm= schedule.max_steps= schedule.batch_size= schedule.micro_batch_size=
                schedule.seed= schedule.ema_decay= schedule.log_every= schedule.preview_every= schedule.validate_every=
                schedule.validation_images= schedule.save_every= schedule.keep_checkpoints= schedule.keep_every=
                schedule.early_stop= schedule.initial_convolutions= loss.reconstruction= loss.reconstruction_weight=
                loss.quantizer_weight= loss.entropy_weight= loss.perceptual_weight= loss.lpips_weights=
                alignment.encoder_weight= alignment.decoder_weight= alignment.margin= alignment.teacher=
                alignment.weights= discriminator.weight= discriminator.start_step= discriminator.kind=
                discriminator.weights= discriminator.augment_probability= discriminator.augment_range=
                discriminator.lecam_weight= discriminator.lecam_decay= discriminator.optimizer.schedule=
                discriminator.optimizer.learning_rate= discriminator.optimizer.final_learning_rate=
                discriminator.optimizer.warmup_steps= discriminator.optimizer.decay_steps=
                discriminator.optimizer.beta1= discriminator.optimizer.beta2= discriminator.optimizer.weight_decay=
                discriminator.optimizer.max_grad_norm= nested_dropout.probability= nested_dropout.min_tokens=
                revival.every= revival.until= compute.precision= compute.compile= compute.memory= compute.deterministic=
                health.max_skipped_steps= health.warn_data_wait= health.warn_codebook_usage= model.num_codes=
                model.num_sequential_codes= model.num_classes= model.width= model.num_layers= model.num_heads=
                model.class_dropout= model.token_dropout= model.residual_dropout= model.ffn_dropout= compute.sharding=
            )
            ;;
        'tokenizer presets')
            words=(
                restok-b-128 restok-l-128 restok-l-128-1-stage restok-l-128-2-stages restok-l-128-3-stages
                restok-l-128-image-residuals restok-l-128-latent-residuals restok-l-128-no-alignment
                restok-l-128-no-nested-dropout restok-l-128-no-residuals restok-l-128-released restok-s-128 sample
                sample-gpu tiny
            )
            ;;
        'tokenizer settings')
            words=(
                model.image_height= model.image_width= model.patch_size= model.pixel_encoder= model.cnn_channels=
                model.cnn_multipliers= model.cnn_norm_groups= model.cnn_shortcut= model.feature_channels=
                model.encoder_width= model.encoder_layers= model.decoder_width= model.decoder_layers= model.head_width=
                model.num_stages= model.merge_factor= model.merge= model.residual_image_tokens= model.num_latent_tokens=
                model.latent_init= model.residual_latent_tokens= model.latent_layout= model.head_per_level=
                model.image_queries= model.codebook_size= model.codebook_dim= model.normalize_codes=
                model.encoder_alignment_dim= model.decoder_alignment_dim= data.crop= data.random_zoom=
                data.random_crop_area= data.random_flip= data.num_workers= data.broken_limit= data.max_member_bytes=
                optimizer.schedule= optimizer.learning_rate= optimizer.final_learning_rate= optimizer.warmup_steps=
                optimizer.decay_steps= optimizer.beta1= optimizer.beta2= optimizer.weight_decay=
                optimizer.max_grad_norm= schedule.max_steps= schedule.batch_size= schedule.micro_batch_size=
                schedule.seed= schedule.ema_decay= schedule.log_every= schedule.preview_every= schedule.validate_every=
                schedule.validation_images= schedule.save_every= schedule.keep_checkpoints= schedule.keep_every=
                schedule.early_stop= schedule.initial_convolutions= loss.reconstruction= loss.reconstruction_weight=
                loss.quantizer_weight= loss.entropy_weight= loss.perceptual_weight= loss.lpips_weights=
                alignment.encoder_weight= alignment.decoder_weight= alignment.margin= alignment.teacher=
                alignment.weights= discriminator.weight= discriminator.start_step= discriminator.kind=
                discriminator.weights= discriminator.augment_probability= discriminator.augment_range=
                discriminator.lecam_weight= discriminator.lecam_decay= discriminator.optimizer.schedule=
                discriminator.optimizer.learning_rate= discriminator.optimizer.final_learning_rate=
                discriminator.optimizer.warmup_steps= discriminator.optimizer.decay_steps=
                discriminator.optimizer.beta1= discriminator.optimizer.beta2= discriminator.optimizer.weight_decay=
                discriminator.optimizer.max_grad_norm= nested_dropout.probability= nested_dropout.min_tokens=
                revival.every= revival.until= compute.precision= compute.compile= compute.memory= compute.deterministic=
                health.max_skipped_steps= health.warn_data_wait= health.warn_codebook_usage=
            )
            ;;
        'tokenizer|generator')
            words=(
                tokenizer generator
            )
            ;;
        'tokenizer|har')
            words=(
                tokenizer har
            )
            ;;
        trackers)
            words=(
                tensorboard wandb trackio
            )
            ;;
        'validation|train')
            words=(
                validation train
            )
            ;;
        'validation|train|all')
            words=(
                validation train all
            )
            ;;
        'ways to draw')
            words=(
                paper sample
            )
            paths=-f
            ;;
    esac
}

_restok_at() {  # what the command $1 has; the kinds of its arguments, others that of all after them
    case $1 in
        restok)
            commands=(prepare train-tokenizer train-har reconstruct generate encode decode evaluate probe tune curves report demo bench doctor models config plan)
            options=(
                --version --help -h
            )
            arguments=() others=
            ;;
        'restok prepare')
            commands=(imagenet folder shards codes verify sample)
            options=(
                --help -h
            )
            arguments=() others=
            ;;
        'restok prepare imagenet')
            commands=()
            options=(
                --test-as-validation --resize --max-pixels --max-decoded-pixels --max-member-bytes --check
                --samples-per-shard --jobs --overwrite --json --help -h
            )
            arguments=(folders files) others=
            ;;
        'restok prepare folder')
            commands=()
            options=(
                --validation-fraction --test-as-validation --resize --max-pixels --max-decoded-pixels --max-member-bytes
                --check --samples-per-shard --jobs --overwrite --json --help -h
            )
            arguments=(folders files) others=
            ;;
        'restok prepare shards')
            commands=()
            options=(
                --class-names --num-classes --check --max-decoded-pixels --max-member-bytes --jobs --overwrite --json
                --help -h
            )
            arguments=() others=files
            ;;
        'restok prepare codes')
            commands=()
            options=(
                --tokenizer --views --batch-size --num-workers --max-member-bytes --num-processes --device --dtype
                --deterministic --overwrite --json --help -h
            )
            arguments=(data files) others=
            ;;
        'restok prepare verify')
            commands=()
            options=(
                --jobs --max-member-bytes --json --help -h
            )
            arguments=(data) others=
            ;;
        'restok prepare sample')
            commands=()
            options=(
                --overwrite --json --help -h
            )
            arguments=(files) others=
            ;;
        'restok train-tokenizer')
            commands=()
            options=(
                --output -o --preset --config --set --max-steps --batch-size --seed --image-size --init --early-stop
                --stop-at --track --allow-pipe --num-processes --dry-run --skip-preflight --resume --overwrite --device
                --help -h
            )
            arguments=(data) others=
            ;;
        'restok train-har')
            commands=()
            options=(
                --tokenizer --output -o --preset --config --set --max-steps --batch-size --seed --image-size --init
                --early-stop --stop-at --track --allow-pipe --num-processes --dry-run --skip-preflight --resume
                --overwrite --device --help -h
            )
            arguments=(data) others=
            ;;
        'restok reconstruct')
            commands=()
            options=(
                --model --output -o --num-codes --split --no-crop --max-decoded-pixels --max-member-bytes --grid
                --ladder --overwrite --num-processes --batch-size --device --dtype --deterministic --json --help -h
            )
            arguments=() others=pictures
            ;;
        'restok generate')
            commands=()
            options=(
                --model --steps --count --class --like --keep --seed --preset --cfg-scale --cfg-schedule --cfg-start
                --cfg-stop --cfg-peak --temperature --greedy --top-k --top-p --tokenizer --output -o --grid --ladder
                --shards --codes --resume --overwrite --num-processes --compile --batch-size --device --dtype
                --deterministic --json --help -h
            )
            arguments=() others=
            ;;
        'restok encode')
            commands=()
            options=(
                --model --output -o --split --no-crop --max-decoded-pixels --max-member-bytes --overwrite
                --num-processes --batch-size --device --dtype --deterministic --json --help -h
            )
            arguments=() others=pictures
            ;;
        'restok decode')
            commands=()
            options=(
                --model --output -o --num-codes --mix --keep --grid --ladder --overwrite --batch-size --device --dtype
                --deterministic --json --help -h
            )
            arguments=() others=files
            ;;
        'restok evaluate')
            commands=()
            options=(
                --metric --reference --split --crop --max-decoded-pixels --max-member-bytes --model --num-codes
                --perturb --nearest --per-image --features --inception-weights --vgg-weights --timm-weights --cache
                --no-cache --batch-size --plot --fail-under --compare --runs --make-reference --output -o
                --reference-images --num-processes --overwrite --device --json --help -h
            )
            arguments=() others=pictures
            ;;
        'restok probe')
            commands=()
            options=(
                --part --block --tokenizer --l2 --neighbours --cache --no-cache --batch-size --num-processes --device
                --json --help -h
            )
            arguments=(models data) others=
            ;;
        'restok tune')
            commands=()
            options=(
                --metric --reference --split --features --inception-weights --vgg-weights --timm-weights --cache --space
                --try --first --images --class --steps --seed --tokenizer --output -o --plot --num-processes --resume
                --overwrite --batch-size --device --dtype --deterministic --json --help -h
            )
            arguments=(models) others=
            ;;
        'restok curves')
            commands=()
            options=(
                --output -o --metric --overwrite --help -h
            )
            arguments=() others=folders
            ;;
        'restok report')
            commands=()
            options=(
                --output -o --metrics --watch --overwrite --help -h
            )
            arguments=() others=folders
            ;;
        'restok demo')
            commands=()
            options=(
                --output -o --quick --overwrite --help -h
            )
            arguments=() others=
            ;;
        'restok bench')
            commands=()
            options=(
                --model --preset --har --what --batch-size --runs --compile --device --json --markdown --plot --help -h
            )
            arguments=() others=
            ;;
        'restok doctor')
            commands=()
            options=(
                --json --help -h
            )
            arguments=() others=pictures
            ;;
        'restok models')
            commands=(presets show verify convert halve card push)
            options=(
                --json --help -h
            )
            arguments=() others=
            ;;
        'restok models presets')
            commands=()
            options=(
                --kind --memory --json --help -h
            )
            arguments=(presets) others=
            ;;
        'restok models show')
            commands=()
            options=(
                --json --help -h
            )
            arguments=(models) others=
            ;;
        'restok models verify')
            commands=()
            options=(
                --json --help -h
            )
            arguments=() others=models
            ;;
        'restok models convert')
            commands=()
            options=(
                --overwrite --help -h
            )
            arguments=(models files) others=
            ;;
        'restok models halve')
            commands=()
            options=(
                --overwrite --help -h
            )
            arguments=(models files) others=
            ;;
        'restok models card')
            commands=()
            options=(
                --metrics --licence --license --overwrite --help -h
            )
            arguments=(models) others=
            ;;
        'restok models push')
            commands=()
            options=(
                --metrics --licence --license --private --revision --dry-run --help -h
            )
            arguments=(models nothing) others=
            ;;
        'restok config')
            commands=(suggest show diff validate schema)
            options=(
                --help -h
            )
            arguments=() others=
            ;;
        'restok config suggest')
            commands=()
            options=(
                --kind --image-size --minutes --memory --device --json --help -h
            )
            arguments=(data) others=
            ;;
        'restok config show')
            commands=()
            options=(
                --set --kind --json --help -h
            )
            arguments=(configs) others=
            ;;
        'restok config diff')
            commands=()
            options=(
                --kind --json --help -h
            )
            arguments=(configs configs) others=
            ;;
        'restok config validate')
            commands=()
            options=(
                --kind --help -h
            )
            arguments=(files) others=
            ;;
        'restok config schema')
            commands=()
            options=(
                --help -h
            )
            arguments=('tokenizer|har') others=
            ;;
        'restok plan')
            commands=(train-tokenizer train-har generate encode evaluate)
            options=(
                --help -h
            )
            arguments=() others=
            ;;
        'restok plan train-tokenizer')
            commands=()
            options=(
                --preset --config --set --max-steps --batch-size --gpu --num-processes --price-per-hour --fit --choices
                --no-choices --json --help -h
            )
            arguments=() others=
            ;;
        'restok plan train-har')
            commands=()
            options=(
                --preset --config --set --max-steps --batch-size --gpu --num-processes --price-per-hour --fit --choices
                --no-choices --json --help -h
            )
            arguments=() others=
            ;;
        'restok plan generate')
            commands=()
            options=(
                --preset --tokenizer --count --batch-size --dtype --gpu --price-per-hour --json --help -h
            )
            arguments=() others=
            ;;
        'restok plan encode')
            commands=()
            options=(
                --tokenizer --count --batch-size --dtype --gpu --price-per-hour --json --help -h
            )
            arguments=() others=
            ;;
        'restok plan evaluate')
            commands=()
            options=(
                --count --size --batch-size --gpu --price-per-hour --json --help -h
            )
            arguments=() others=
            ;;
    esac
}

_restok_option() {  # what the option $2 of the command $1 takes: its kind, and how many
    case $1 in
        'restok prepare imagenet')
            case $2 in
                --resize) kind=nothing pending=1 ;;
                --max-pixels) kind=nothing pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --check) kind='quick|full' pending=1 ;;
                --samples-per-shard) kind=nothing pending=1 ;;
                --jobs) kind=nothing pending=1 ;;
            esac
            ;;
        'restok prepare folder')
            case $2 in
                --validation-fraction) kind=nothing pending=1 ;;
                --resize) kind=nothing pending=1 ;;
                --max-pixels) kind=nothing pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --check) kind='quick|full' pending=1 ;;
                --samples-per-shard) kind=nothing pending=1 ;;
                --jobs) kind=nothing pending=1 ;;
            esac
            ;;
        'restok prepare shards')
            case $2 in
                --class-names) kind='class names' pending=1 ;;
                --num-classes) kind=nothing pending=1 ;;
                --check) kind='quick|full' pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --jobs) kind=nothing pending=1 ;;
            esac
            ;;
        'restok prepare codes')
            case $2 in
                --tokenizer) kind=models pending=1 ;;
                --views) kind='ten-crop|flip|centre' pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --num-workers) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok prepare verify')
            case $2 in
                --jobs) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
            esac
            ;;
        'restok train-tokenizer')
            case $2 in
                --output | -o) kind=folders pending=1 ;;
                --preset) kind='tokenizer presets' pending=1 ;;
                --config) kind=files pending=1 ;;
                --set) kind='tokenizer settings' pending=1 ;;
                --max-steps) kind=nothing pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --seed) kind=nothing pending=1 ;;
                --image-size) kind=nothing pending=1 ;;
                --init) kind=models pending=1 ;;
                --early-stop) kind=nothing pending=1 ;;
                --stop-at) kind=nothing pending=1 ;;
                --track) kind=trackers pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
            esac
            ;;
        'restok train-har')
            case $2 in
                --tokenizer) kind=models pending=1 ;;
                --output | -o) kind=folders pending=1 ;;
                --preset) kind='har presets' pending=1 ;;
                --config) kind=files pending=1 ;;
                --set) kind='har settings' pending=1 ;;
                --max-steps) kind=nothing pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --seed) kind=nothing pending=1 ;;
                --image-size) kind=nothing pending=1 ;;
                --init) kind=models pending=1 ;;
                --early-stop) kind=nothing pending=1 ;;
                --stop-at) kind=nothing pending=1 ;;
                --track) kind=trackers pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
            esac
            ;;
        'restok reconstruct')
            case $2 in
                --model) kind=models pending=1 ;;
                --output | -o) kind=files pending=1 ;;
                --num-codes) kind=nothing pending=1 ;;
                --split) kind='validation|train' pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --grid) kind=files pending=1 ;;
                --ladder) kind=files pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok generate')
            case $2 in
                --model) kind=models pending=1 ;;
                --steps) kind=nothing pending=1 ;;
                --count) kind=nothing pending=1 ;;
                --class) kind=classes pending=1 ;;
                --like) kind=files pending=1 ;;
                --keep) kind=nothing pending=1 ;;
                --seed) kind=nothing pending=1 ;;
                --preset) kind='ways to draw' pending=1 ;;
                --cfg-scale) kind=nothing pending=1 ;;
                --cfg-schedule) kind='constant|linear|linear-reversed|linear-constant|triangular|rectangular|step|cosine|cosine-reversed' pending=1 ;;
                --cfg-start) kind=nothing pending=1 ;;
                --cfg-stop) kind=nothing pending=1 ;;
                --cfg-peak) kind=nothing pending=1 ;;
                --temperature) kind=nothing pending=1 ;;
                --top-k) kind=nothing pending=1 ;;
                --top-p) kind=nothing pending=1 ;;
                --tokenizer) kind=models pending=1 ;;
                --output | -o) kind=files pending=1 ;;
                --grid) kind=files pending=1 ;;
                --ladder) kind=files pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --compile) kind='auto|on|off' pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok encode')
            case $2 in
                --model) kind=models pending=1 ;;
                --output | -o) kind=files pending=1 ;;
                --split) kind='validation|train' pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok decode')
            case $2 in
                --model) kind=models pending=1 ;;
                --output | -o) kind=files pending=1 ;;
                --num-codes) kind=nothing pending=1 ;;
                --mix) kind=files pending=2 ;;
                --keep) kind=nothing pending=1 ;;
                --grid) kind=files pending=1 ;;
                --ladder) kind=files pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok evaluate')
            case $2 in
                --metric) kind=metric pending=1 ;;
                --reference) kind=pictures pending=1 ;;
                --split) kind='validation|train|all' pending=1 ;;
                --crop) kind=nothing pending=1 ;;
                --max-decoded-pixels) kind=nothing pending=1 ;;
                --max-member-bytes) kind=nothing pending=1 ;;
                --model) kind=models pending=1 ;;
                --num-codes) kind=all pending=1 ;;
                --perturb) kind=nothing pending=1 ;;
                --nearest) kind=nothing pending=1 ;;
                --features) kind=networks pending=1 ;;
                --inception-weights) kind=files pending=1 ;;
                --vgg-weights) kind=files pending=1 ;;
                --timm-weights) kind=files pending=1 ;;
                --cache) kind=folders pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --plot) kind=files pending=1 ;;
                --fail-under) kind=limits pending=1 ;;
                --compare) kind=files pending=2 ;;
                --make-reference) kind=pictures pending=1 ;;
                --output | -o) kind=files pending=1 ;;
                --reference-images) kind=nothing pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
            esac
            ;;
        'restok probe')
            case $2 in
                --part) kind='tokenizer|generator' pending=1 ;;
                --block) kind=all pending=1 ;;
                --tokenizer) kind=models pending=1 ;;
                --l2) kind=auto pending=1 ;;
                --neighbours) kind=nothing pending=1 ;;
                --cache) kind=folders pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
            esac
            ;;
        'restok tune')
            case $2 in
                --metric) kind='metric of sets' pending=1 ;;
                --reference) kind=pictures pending=1 ;;
                --split) kind='validation|train|all' pending=1 ;;
                --features) kind=networks pending=1 ;;
                --inception-weights) kind=files pending=1 ;;
                --vgg-weights) kind=files pending=1 ;;
                --timm-weights) kind=files pending=1 ;;
                --cache) kind=folders pending=1 ;;
                --space) kind=files pending=1 ;;
                --try) kind='options to try' pending=1 ;;
                --first) kind=nothing pending=1 ;;
                --images) kind=nothing pending=1 ;;
                --class) kind=classes pending=1 ;;
                --steps) kind=nothing pending=1 ;;
                --seed) kind=nothing pending=1 ;;
                --tokenizer) kind=models pending=1 ;;
                --output | -o) kind=folders pending=1 ;;
                --plot) kind=files pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --device) kind=devices pending=1 ;;
                --dtype) kind='auto|float32|bf16' pending=1 ;;
            esac
            ;;
        'restok curves')
            case $2 in
                --output | -o) kind=files pending=1 ;;
                --metric) kind=nothing pending=1 ;;
            esac
            ;;
        'restok report')
            case $2 in
                --output | -o) kind=files pending=1 ;;
                --metrics) kind=files pending=1 ;;
            esac
            ;;
        'restok demo')
            case $2 in
                --output | -o) kind=folders pending=1 ;;
            esac
            ;;
        'restok bench')
            case $2 in
                --model) kind=models pending=1 ;;
                --preset) kind='tokenizer presets' pending=1 ;;
                --har) kind='har presets' pending=1 ;;
                --what) kind=parts pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --runs) kind=nothing pending=1 ;;
                --device) kind=devices pending=1 ;;
                --plot) kind=files pending=1 ;;
            esac
            ;;
        'restok models presets')
            case $2 in
                --kind) kind='tokenizer|har' pending=1 ;;
            esac
            ;;
        'restok models card')
            case $2 in
                --metrics) kind=files pending=1 ;;
                --licence | --license) kind=nothing pending=1 ;;
            esac
            ;;
        'restok models push')
            case $2 in
                --metrics) kind=files pending=1 ;;
                --licence | --license) kind=nothing pending=1 ;;
                --revision) kind=nothing pending=1 ;;
            esac
            ;;
        'restok config suggest')
            case $2 in
                --kind) kind='tokenizer|har' pending=1 ;;
                --image-size) kind=nothing pending=1 ;;
                --minutes) kind=nothing pending=1 ;;
                --memory) kind=nothing pending=1 ;;
                --device) kind=devices pending=1 ;;
            esac
            ;;
        'restok config show')
            case $2 in
                --set) kind='tokenizer and har settings' pending=1 ;;
                --kind) kind='tokenizer|har' pending=1 ;;
            esac
            ;;
        'restok config diff')
            case $2 in
                --kind) kind='tokenizer|har' pending=1 ;;
            esac
            ;;
        'restok config validate')
            case $2 in
                --kind) kind='tokenizer|har' pending=1 ;;
            esac
            ;;
        'restok plan train-tokenizer')
            case $2 in
                --preset) kind='tokenizer presets' pending=1 ;;
                --config) kind=files pending=1 ;;
                --set) kind='tokenizer settings' pending=1 ;;
                --max-steps) kind=nothing pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --gpu) kind='h100|h200|a100|l40s|4090|3090|mi300x|cpu' pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --price-per-hour) kind=nothing pending=1 ;;
                --fit) kind=nothing pending=1 ;;
            esac
            ;;
        'restok plan train-har')
            case $2 in
                --preset) kind='har presets' pending=1 ;;
                --config) kind=files pending=1 ;;
                --set) kind='har settings' pending=1 ;;
                --max-steps) kind=nothing pending=1 ;;
                --batch-size) kind=nothing pending=1 ;;
                --gpu) kind='h100|h200|a100|l40s|4090|3090|mi300x|cpu' pending=1 ;;
                --num-processes) kind=auto pending=1 ;;
                --price-per-hour) kind=nothing pending=1 ;;
                --fit) kind=nothing pending=1 ;;
            esac
            ;;
        'restok plan generate')
            case $2 in
                --preset) kind='har presets' pending=1 ;;
                --tokenizer) kind='tokenizer presets' pending=1 ;;
                --count) kind=nothing pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --dtype) kind='float32|bf16' pending=1 ;;
                --gpu) kind='h100|h200|a100|l40s|4090|3090|mi300x|cpu' pending=1 ;;
                --price-per-hour) kind=nothing pending=1 ;;
            esac
            ;;
        'restok plan encode')
            case $2 in
                --tokenizer) kind='tokenizer presets' pending=1 ;;
                --count) kind=nothing pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --dtype) kind='float32|bf16' pending=1 ;;
                --gpu) kind='h100|h200|a100|l40s|4090|3090|mi300x|cpu' pending=1 ;;
                --price-per-hour) kind=nothing pending=1 ;;
            esac
            ;;
        'restok plan evaluate')
            case $2 in
                --count) kind=nothing pending=1 ;;
                --size) kind=nothing pending=1 ;;
                --batch-size) kind=auto pending=1 ;;
                --gpu) kind='h100|h200|a100|l40s|4090|3090|mi300x|cpu' pending=1 ;;
                --price-per-hour) kind=nothing pending=1 ;;
            esac
            ;;
    esac
}

_restok() {
    local path=restok kind= pending=0 position=0 ended= others= paths= before= word
    local -a line=() commands=() options=() arguments=() words=()
    _restok_split
    local cur=${line[${#line[@]} - 1]}
    _restok_at "$path"
    for word in "${line[@]:1:${#line[@]} - 2}"; do
        if ((pending)); then
            ((--pending)) || kind=
        elif [[ ! $ended && $word == -- ]]; then
            ended=1
        elif [[ ! $ended && $word == -?* ]]; then
            [[ $word == --*=* ]] || _restok_option "$path" "$word"
        elif [[ " ${commands[*]} " == *" $word "* ]]; then
            path+=" $word"
            _restok_at "$path"
        else
            ((position++))
        fi
    done
    if ((pending)); then
        :
    elif [[ ! $ended && $cur == --*=* ]]; then
        _restok_option "$path" "${cur%%=*}"
        before=${before#"${cur%%=*}="}
        cur=${cur#*=}
    elif [[ ! $ended && $cur == -* ]]; then
        words=("${options[@]}")
    else
        words=("${commands[@]}")
        kind=${arguments[position]-$others}
    fi
    _restok_values "$kind"
    _restok_reply
}

_restok_split() {  # the words before the cursor, into line; bash also splits them at = and :, which is undone here
    local rest=${COMP_LINE:0:COMP_POINT} piece gapless i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${rest#"${rest%%[![:space:]]*}"}
        gapless=$((i > 0 && ${#piece} == ${#rest}))
        rest=$piece
        ((i == COMP_CWORD)) || piece=${COMP_WORDS[i]}
        rest=${rest#"$piece"}
        if ((gapless)); then
            before=${line[${#line[@]} - 1]}
            line[${#line[@]} - 1]+=$piece
            [[ $piece != [=:] ]] || before+=$piece
        else
            before=
            line+=("$piece")
        fi
    done
}

_restok_reply() {  # those of words, files and folders that begin as the word at the cursor does, as it is quoted
    local mark= word reply
    COMPREPLY=()
    case $cur in
        [\'\"]*) mark=${cur:0:1} cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
    esac
    for word in "${words[@]}"; do
        [[ $word == "$cur"* ]] || continue
        reply=${word#"$before"}
        case $paths$mark in
            \') reply=${reply//\'/\'\\\'\'} ;;
            '') [[ $reply == *[=:] ]] || printf -v reply %q "$reply" ;;
        esac
        COMPREPLY+=("$reply")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    [[ $paths ]] || return
    compopt -o filenames 2>/dev/null  # bash quotes them, and ends folders with a slash; bash 3 has no compopt
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$before"}")
    done < <(compgen "$paths" -- "$cur")
}

complete -F _restok restok
